// What every row must do beyond right values: shapes on meta, empty inputs, gradients in f64.
#include <doctest/doctest.h>

#include <cmath>
#include <set>
#include <string>
#include <vector>

#include <weft/autograd/autograd.hpp>
#include <weft/core/base/error.hpp>
#include <weft/core/ops.hpp>
#include <weft/core/random.hpp>
#include <weft/tests/support/golden_ops.hpp>

using namespace weft;
using namespace weft::test;

namespace {

/// Calls f(goldens, case, row) for every case whose row is a function of its inputs: the golden
/// ones, and one of random inputs for each row that has none.
template <class F>
void each_case(F f) {
  manual_seed(1);
  GoldenOps goldens(golden_folder() + "/ops.safetensors");
  std::set<std::string> covered;
  for (const GoldenCase& golden : goldens.cases()) covered.insert(golden.op);
  for (const OpRow& row : op_rows()) {
    if (covered.contains(row.name)) continue;
    INFO("row " << row.name << " has no golden case; give it an `example`");
    CHECK_FALSE(row.example.empty());
    goldens.add_example(row);
  }
  for (const GoldenCase& golden : goldens.cases()) {
    const OpRow* const row = find_op_row(golden.op);
    if (row == nullptr || row->kind != OpKind::plain) continue;
    if (row->handles != nullptr && !row->handles(golden.args)) continue;
    CAPTURE(golden.id);
    f(goldens, golden, *row);
  }
}

bool wants_grad(const GoldenCase& golden, size_t i) {
  return i < golden.grads.size() && !golden.grads[i].empty();
}

constexpr const char* kThrew = "threw: ";

/// Shapes and dtypes of outputs and gradients, or the error's text.
std::string outline(const GoldenCase& golden, const OpRow& row, std::vector<Tensor> inputs) {
  try {
    std::string text;
    const auto add = [&](const Tensor& t) {
      text += t.defined() ? " " + std::string(name_of(t.dtype())) + to_string(t.shape()) : " none";
    };
    for (size_t i = 0; i < inputs.size(); ++i)
      if (wants_grad(golden, i)) inputs[i] = inputs[i].detach().requires_grad_();
    const std::vector<Tensor> outputs = row.call(golden.args, inputs);
    std::vector<Tensor> cotangents;
    for (const Tensor& output : outputs) {
      add(output);
      cotangents.push_back(output.requires_grad() ? ones_like(output) : Tensor());
    }
    if (golden.grads.empty()) return text;
    text += " grads";
    for (const Tensor& product : products(outputs, inputs, cotangents)) add(product);
    return text;
  } catch (const Error& error) {
    return std::string(kThrew) + error.what();
  }
}

std::vector<Tensor> on(Device device, std::vector<Tensor> tensors) {
  for (Tensor& tensor : tensors) tensor = tensor.to(device);
  return tensors;
}

/// The inputs with dim 0 of those that have as many rows as the first one cut to nothing.
std::vector<Tensor> without_rows(std::vector<Tensor> inputs) {
  const int rank = inputs[0].dim();
  if (rank == 0) return inputs;
  const int64_t rows = inputs[0].size(0);
  for (Tensor& input : inputs)
    if (input.dim() == rank && input.size(0) == rows) input = input.narrow(0, 0, 0);
  return inputs;
}

}  // namespace

TEST_CASE("op rows on meta give the shapes and dtypes of the cpu, forward and backward") {
  each_case([](const GoldenOps& goldens, const GoldenCase& golden, const OpRow& row) {
    const std::vector<Tensor> inputs = goldens.tensors(golden.inputs);
    CHECK(outline(golden, row, on(Device::meta(), inputs)) == outline(golden, row, inputs));
  });
}

TEST_CASE("op rows give the same from every layout of their inputs, and on sim") {
  each_case([](const GoldenOps& goldens, const GoldenCase& golden, const OpRow& row) {
    const std::vector<Tensor> inputs = goldens.tensors(golden.inputs);
    const auto first_of = [&](const std::vector<Tensor>& given) {
      return row.call(golden.args, given).at(0).to_vector<double>();
    };
    const std::vector<double> expected = first_of(inputs);
    const auto check = [&](const std::vector<double>& got) {
      REQUIRE(got.size() == expected.size());
      for (size_t i = 0; i < got.size(); ++i)
        CHECK((got[i] == doctest::Approx(expected[i]).epsilon(1e-5) ||
               (std::isnan(got[i]) && std::isnan(expected[i]))));
    };
    for (const Form form : {Form::transposed, Form::stepped}) {
      std::vector<Tensor> formed;
      for (const Tensor& input : inputs) formed.push_back(in_form(input, form));
      check(first_of(formed));
    }
    check(first_of(on(Device::sim(), inputs)));
  });
}

TEST_CASE("op rows with empty inputs: the same on meta, on the cpu and for each dim") {
  each_case([](const GoldenOps& goldens, const GoldenCase& golden, const OpRow& row) {
    const std::vector<Tensor> whole = goldens.tensors(golden.inputs);
    const auto check = [&](const std::vector<Tensor>& inputs) {
      const std::string here = outline(golden, row, inputs);
      if (row.checks_values && here.starts_with(kThrew)) return;
      CHECK(outline(golden, row, on(Device::meta(), inputs)) == here);
    };
    check(without_rows(whole));
    for (size_t i = 0; i < whole.size(); ++i)
      for (int dim = 0; dim < whole[i].dim(); ++dim) {
        CAPTURE(i);
        CAPTURE(dim);
        std::vector<Tensor> inputs = whole;
        inputs[i] = inputs[i].narrow(dim, 0, 0);
        check(inputs);
      }
  });
}

TEST_CASE("op rows: gradients agree with differences in f64") {
  each_case([](const GoldenOps& goldens, const GoldenCase& golden, const OpRow& row) {
    if (golden.grads.empty()) return;
    if (row.custom_gradient != nullptr && row.custom_gradient(golden.args)) return;
    std::vector<Tensor> all = goldens.tensors(golden.inputs), wanted;
    for (size_t i = 0; i < all.size(); ++i) {
      if (all[i].is_floating_point()) all[i] = all[i].to(DType::f64);
      if (wants_grad(golden, i)) wanted.push_back(all[i].requires_grad_());
    }
    const auto weighted_sum = [&](const std::vector<Tensor>& xs) {
      std::vector<Tensor> inputs = all;
      for (size_t i = 0, next = 0; i < inputs.size(); ++i)
        if (wants_grad(golden, i)) inputs[i] = xs[next++];
      Tensor total;
      const std::vector<Tensor> outputs = row.call(golden.args, inputs);
      for (size_t i = 0; i < outputs.size(); ++i) {
        const Tensor weights = goldens.tensor(golden.cotangents[i]);
        if (!weights.defined()) continue;
        const Tensor part = sum(outputs[i] * weights.to(DType::f64));
        total = total.defined() ? total + part : part;
      }
      return total;
    };
    CHECK(gradcheck(weighted_sum, wanted) == "");
  });
}
