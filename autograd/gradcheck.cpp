#include <fmt/core.h>

#include <cmath>

#include <weft/autograd/autograd.hpp>
#include <weft/core/base/check.hpp>
#include <weft/core/ops.hpp>

namespace weft::inline v0 {

namespace {

using Function = std::function<Tensor(const std::vector<Tensor>&)>;

/// <fn(inputs), weights>, so that one number stands for all outputs.
double weighted_sum(const Function& fn, const std::vector<Tensor>& inputs, const Tensor& weights) {
  const NoGrad guard;
  return sum(fn(inputs) * weights).item<double>();
}

/// Fixed, all different, none zero: a wrong element cannot hide behind another one.
Tensor output_weights(const Tensor& output) {
  std::vector<double> values(static_cast<size_t>(output.numel()));
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = 0.5 + std::fmod(0.6180339887498949 * static_cast<double>(i + 1), 1.0);
  return from_host(values.data(), output.shape(), DType::f64, output.device());
}

std::vector<Tensor> copies_of(const std::vector<Tensor>& inputs) {
  std::vector<Tensor> copies;
  for (const Tensor& input : inputs) {
    copies.push_back(input.detach().clone());
    if (input.requires_grad()) copies.back().requires_grad_();
  }
  return copies;
}

std::string compare(const Function& fn, const std::vector<Tensor>& inputs, size_t which,
                    const Tensor& analytic, const Tensor& weights,
                    const GradcheckOptions& options) {
  std::vector<Tensor> moved = copies_of(inputs);
  const std::vector<double> base = inputs[which].detach().to_vector<double>();
  const std::vector<double> gradient = analytic.to_vector<double>();
  for (size_t e = 0; e < base.size(); ++e) {
    const auto at = [&](double value) {
      std::vector<double> values = base;
      values[e] = value;
      moved[which] =
          from_host(values.data(), inputs[which].shape(), DType::f64, inputs[which].device());
      return weighted_sum(fn, moved, weights);
    };
    const double numeric =
        (at(base[e] + options.eps) - at(base[e] - options.eps)) / (2 * options.eps);
    const double difference = std::abs(numeric - gradient[e]);
    if (!(difference <= options.atol + options.rtol * std::abs(numeric)))
      return fmt::format(
          "gradcheck: input {} of shape {}, element {}: backward gives {}, differences {}", which,
          to_string(inputs[which].shape()), e, gradient[e], numeric);
  }
  return "";
}

}  // namespace

std::string gradcheck(const Function& fn, const std::vector<Tensor>& inputs,
                      const GradcheckOptions& options) {
  std::vector<size_t> checked;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].requires_grad()) continue;
    WEFT_CHECK(ArgumentError, inputs[i].dtype() == DType::f64,
               "gradcheck: input {} is {}; differences need f64", i, name_of(inputs[i].dtype()));
    checked.push_back(i);
  }
  WEFT_CHECK(ArgumentError, !checked.empty(), "gradcheck: no input requires grad");
  const std::vector<Tensor> leaves = copies_of(inputs);
  std::vector<Tensor> wanted;
  for (const size_t i : checked) wanted.push_back(leaves[i]);
  const Tensor output = fn(leaves);
  const Tensor weights = output_weights(output);
  const std::vector<Tensor> gradients =
      grad({sum(output * weights)}, wanted,
           {.create_graph = options.second_order, .allow_unused = true});
  for (size_t k = 0; k < checked.size(); ++k) {
    const Tensor analytic =
        gradients[k].defined() ? gradients[k].detach() : zeros_like(wanted[k].detach());
    if (std::string text = compare(fn, inputs, checked[k], analytic, weights, options);
        !text.empty())
      return text;
  }
  if (!options.second_order) return "";
  GradcheckOptions first = options;
  first.second_order = false;
  for (size_t k = 0; k < checked.size(); ++k) {
    const Function derivative = [&, k](const std::vector<Tensor>& values) {
      // The derivative itself needs a graph, also where only its value is asked for.
      const bool recording = is_grad_enabled();
      const EnableGrad grad_on;
      std::vector<Tensor> own;
      for (size_t i = 0; i < values.size(); ++i) {
        own.push_back(recording ? values[i] : values[i].detach());
        if (inputs[i].requires_grad() && !own[i].requires_grad()) own[i].requires_grad_();
      }
      const Tensor value = sum(fn(own) * weights);
      std::vector<Tensor> result =
          grad({value}, {own[checked[k]]}, {.create_graph = true, .allow_unused = true});
      return result[0].defined() ? result[0] : zeros_like(own[checked[k]]);
    };
    std::vector<Tensor> probe = copies_of(inputs);
    if (!derivative(probe).requires_grad()) continue;  // linear in every input: nothing to check
    if (std::string text = gradcheck(derivative, inputs, first); !text.empty())
      return "second order, " + text;
  }
  return "";
}

}  // namespace weft::inline v0
