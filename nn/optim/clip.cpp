#include <weft/nn/optim/clip.hpp>

#include <cmath>
#include <limits>

#include <weft/autograd/autograd.hpp>
#include <weft/core/base/check.hpp>
#include <weft/core/ops.hpp>

namespace weft::inline v0::nn {

namespace {

std::vector<Tensor> gradients(const std::vector<Tensor>& parameters) {
  std::vector<Tensor> grads;
  for (const Tensor& parameter : parameters)
    if (Tensor grad = parameter.grad(); grad.defined()) grads.push_back(grad.detach());
  return grads;
}

double norm_of(const std::vector<Tensor>& grads, double p) {
  const bool infinite = std::isinf(p);
  double total = 0;
  for (const Tensor& grad : grads) {
    if (grad.numel() == 0) continue;
    // f32 at least: squares of 16-bit gradients overflow and vanish.
    const Tensor wide = grad.dtype() == DType::f64 ? grad : grad.to(DType::f32);
    const double one = infinite ? amax(abs(wide)).item<double>() : norm(wide, p).item<double>();
    if (infinite)
      total = std::isnan(one) || one > total ? one : total;
    else
      total += std::pow(one, p);
  }
  return infinite ? total : std::pow(total, 1 / p);
}

}  // namespace

Tensor clip_grad_norm_(const std::vector<Tensor>& parameters, double max_norm,
                       ClipOptions options) {
  WEFT_CHECK(ArgumentError, max_norm >= 0, "clip_grad_norm_: max_norm is {}; it must be at least 0",
             max_norm);
  WEFT_CHECK(ArgumentError, options.norm_type > 0,
             "clip_grad_norm_: norm_type is {}; it must be above 0", options.norm_type);
  const NoGrad guard;
  std::vector<Tensor> grads = gradients(parameters);
  if (grads.empty()) return scalar_tensor(0.0, {});
  if (grads[0].device().is_meta()) return scalar_tensor(0.0, {.device = Device::meta()});
  const double total = norm_of(grads, options.norm_type);
  WEFT_CHECK(ArgumentError, !options.error_if_nonfinite || std::isfinite(total),
             "clip_grad_norm_: the norm of the gradients of {} parameters is {}; look for the "
             "first step with such a loss, or leave error_if_nonfinite out",
             grads.size(), total);
  const double factor = max_norm / (total + 1e-6);
  // NaN is not below 1, yet must reach the gradients.
  if (!(factor >= 1))
    for (Tensor& grad : grads) grad.mul_(factor);
  return scalar_tensor(total, {});
}

void clip_grad_value_(const std::vector<Tensor>& parameters, double clip_value) {
  WEFT_CHECK(ArgumentError, clip_value >= 0,
             "clip_grad_value_: clip_value is {}; it must be at least 0", clip_value);
  const NoGrad guard;
  for (Tensor& grad : gradients(parameters)) grad.copy_(clamp(grad, -clip_value, clip_value));
}

}  // namespace weft::inline v0::nn
