// Formulas of the pointwise ops against differences, first and second order.
#include <doctest/doctest.h>

#include <functional>
#include <string>
#include <vector>

#include <weft/autograd/autograd.hpp>
#include <weft/core/ops.hpp>
#include <weft/core/random.hpp>

using namespace weft;

namespace {

using Inputs_ = std::vector<Tensor>;

/// Uniform numbers in [low, high), as leaves.
Tensor leaf(const Shape& shape, double low, double high) {
  Tensor x = rand(shape, {.dtype = DType::f64}) * (high - low) + low;
  return x.requires_grad_();
}

void check_gradients(const std::string& name, const std::function<Tensor(const Inputs_&)>& fn,
                     const Inputs_& inputs) {
  CAPTURE(name);
  const std::string problem = gradcheck(fn, inputs, {.second_order = true});
  CHECK_MESSAGE(problem.empty(), problem);
}

struct Unary {
  const char* name;
  Tensor (*function)(const Tensor&);
  double low, high;
};

}  // namespace

TEST_CASE("functions of one variable") {
  manual_seed(1);
  const Unary functions[] = {
      {"neg", neg, -2, 2},
      {"abs", abs, 0.1, 2},
      {"exp", exp, -2, 2},
      {"expm1", expm1, -2, 2},
      {"log", log, 0.2, 3},
      {"log2", log2, 0.2, 3},
      {"log10", log10, 0.2, 3},
      {"log1p", log1p, -0.5, 3},
      {"sqrt", sqrt, 0.2, 3},
      {"rsqrt", rsqrt, 0.2, 3},
      {"reciprocal", reciprocal, 0.3, 3},
      {"square", square, -2, 2},
      {"sin", sin, -3, 3},
      {"cos", cos, -3, 3},
      {"tan", tan, -1, 1},
      {"asin", asin, -0.9, 0.9},
      {"acos", acos, -0.9, 0.9},
      {"atan", atan, -2, 2},
      {"sinh", sinh, -2, 2},
      {"cosh", cosh, -2, 2},
      {"tanh", tanh, -2, 2},
      {"erf", erf, -2, 2},
      {"sigmoid", sigmoid, -4, 4},
      {"relu", relu, 0.1, 2},
      {"relu below", relu, -2, -0.1},
      {"relu6", relu6, 0.5, 5.5},
      {"silu", silu, -4, 4},
      {"mish", mish, -4, 4},
      {"hardswish", hardswish, -2.9, 2.9},
      {"hardsigmoid", hardsigmoid, -2.9, 2.9},
      {"selu", selu, -2, -0.1},
      {"selu above", selu, 0.1, 2},
      {"softsign", softsign, 0.1, 2},
      {"logsigmoid", logsigmoid, -4, 4},
      {"gelu", [](const Tensor& x) { return gelu(x); }, -3, 3},
      {"gelu tanh", [](const Tensor& x) { return gelu(x, {GeluApproximation::tanh}); }, -3, 3},
      {"softplus", [](const Tensor& x) { return softplus(x, 1.5, 3.0); }, -4, 4},
      {"elu", [](const Tensor& x) { return elu(x, 0.6); }, -2, -0.1},
      {"leaky_relu", [](const Tensor& x) { return leaky_relu(x, 0.2); }, -2, -0.1},
      {"hardtanh", [](const Tensor& x) { return hardtanh(x, -1, 1); }, -0.9, 0.9},
      {"clamp", [](const Tensor& x) { return clamp(x, -0.5, 0.5); }, 0.6, 2},
      {"glu", [](const Tensor& x) { return glu(x); }, -2, 2},
      {"pow", [](const Tensor& x) { return pow(x, 3.5); }, 0.3, 2},
      {"scalars", [](const Tensor& x) { return (2.0 - x) / (1.0 + x * x) * 3.0; }, -2, 2},
  };
  for (const Unary& f : functions)
    check_gradients(f.name, [&](const Inputs_& x) { return f.function(x[0]); },
                    {leaf({2, 4}, f.low, f.high)});
}

TEST_CASE("functions of two and three variables, broadcast") {
  manual_seed(2);
  struct Binary {
    const char* name;
    Tensor (*function)(const Tensor&, const Tensor&);
  };
  const Binary functions[] = {{"add", add},         {"sub", sub},    {"mul", mul},
                              {"div", div},         {"pow", pow},    {"maximum", maximum},
                              {"minimum", minimum}, {"atan2", atan2}};
  for (const Binary& f : functions) {
    const auto apply = [&](const Inputs_& x) { return f.function(x[0], x[1]); };
    check_gradients(f.name, apply, {leaf({2, 3}, 0.4, 2), leaf({3}, 0.4, 2)});
    check_gradients(f.name, apply, {leaf({2, 1}, 0.4, 2), leaf({2, 3}, 0.4, 2)});
  }
  const Tensor mask = gt(rand({3, 1}), 0.5);
  check_gradients("where", [&](const Inputs_& x) { return where(mask, x[0] * x[0], x[1] * x[1]); },
                  {leaf({3, 2}, -1, 1), leaf({2}, -1, 1)});
  check_gradients("lerp", [](const Inputs_& x) { return square(lerp(x[0], x[1], 0.3)); },
                  {leaf({3, 2}, -1, 1), leaf({2}, -1, 1)});
  check_gradients("addcmul", [](const Inputs_& x) { return addcmul(x[0], x[1], x[2], 0.7); },
                  {leaf({3, 2}, -1, 1), leaf({2}, -1, 1), leaf({3, 1}, -1, 1)});
  check_gradients("addcdiv", [](const Inputs_& x) { return addcdiv(x[0], x[1], x[2], 0.7); },
                  {leaf({3, 2}, -1, 1), leaf({2}, -1, 1), leaf({3, 1}, 0.5, 1)});
  check_gradients("clone of a view", [](const Inputs_& x) { return square(x[0].t().clone()); },
                  {leaf({3, 2}, -1, 1)});
}

TEST_CASE("gradients at the corners are PyTorch's") {
  const auto gradient = [](const std::function<Tensor(const Tensor&)>& f,
                           std::initializer_list<double> at) {
    Tensor x = tensor(at);
    x.requires_grad_();
    const Tensor y = f(x);
    y.backward(ones_like(y));
    return x.grad().to_vector<double>();
  };
  using Values = std::vector<double>;
  CHECK(gradient([](const Tensor& x) { return abs(x); }, {-2.0, 0.0, 2.0}) == Values{-1, 0, 1});
  CHECK(gradient([](const Tensor& x) { return relu(x); }, {-1.0, 0.0, 1.0}) == Values{0, 0, 1});
  CHECK(gradient([](const Tensor& x) { return clamp(x, -1.0, 1.0); },
                 {-2.0, -1.0, 0.0, 1.0, 2.0}) == Values{0, 1, 1, 1, 0});
  CHECK(gradient([](const Tensor& x) { return hardtanh(x); }, {-2.0, -1.0, 0.0, 1.0, 2.0}) ==
        Values{0, 0, 1, 0, 0});
  CHECK(gradient([](const Tensor& x) { return round(x); }, {0.3, 1.7}) == Values{0, 0});
  CHECK(gradient([](const Tensor& x) { return pow(x, full({2}, 0.0)); }, {0.0, 2.0}) ==
        Values{0, 0});
  CHECK(gradient([](const Tensor& x) { return pow(full({2}, 0.0), x); }, {0.0, 2.0}) ==
        Values{0, 0});
  // Equal arguments share the gradient.
  Tensor a = tensor({1.0, 2.0, 3.0}), b = tensor({1.0, 3.0, 2.0});
  a.requires_grad_();
  b.requires_grad_();
  maximum(a, b).backward(ones({3}));
  CHECK(a.grad().to_vector<double>() == Values{0.5, 0, 1});
  CHECK(b.grad().to_vector<double>() == Values{0.5, 1, 0});
  Tensor c = tensor({5.0, -5.0}), d = tensor({3.0, 3.0});
  c.requires_grad_();
  d.requires_grad_();
  (fmod(c, d) + remainder(c, d)).backward(ones({2}));
  CHECK(c.grad().to_vector<double>() == Values{2, 2});
  CHECK(d.grad().to_vector<double>() == Values{-2, 3});
}
