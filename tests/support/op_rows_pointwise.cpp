// Rows of pointwise operators.
#include <weft/core/ops.hpp>
#include <weft/tests/support/op_rows.hpp>

namespace weft::test {

namespace {

using Args = const OpArgs&;
using In = const std::vector<Tensor>&;
using Out = std::vector<Tensor>;

template <Tensor (*op)(const Tensor&)>
Out unary(Args, In x) {
  return {op(x[0])};
}
template <Tensor (*op)(const Tensor&, const Tensor&)>
Out binary(Args, In x) {
  return {op(x[0], x[1])};
}

std::optional<Scalar> bound_of(Args a, const char* name) {
  return a.has(name) ? std::optional<Scalar>(a.real(name)) : std::nullopt;
}

}  // namespace

void add_pointwise_rows(std::vector<OpRow>& rows) {
  rows.push_back({.name = "neg", .call = unary<weft::neg>});
  rows.push_back({.name = "abs", .call = unary<weft::abs>});
  rows.push_back({.name = "exp", .call = unary<weft::exp>});
  rows.push_back({.name = "expm1", .call = unary<weft::expm1>});
  rows.push_back({.name = "sin", .call = unary<weft::sin>});
  rows.push_back({.name = "cos", .call = unary<weft::cos>});
  rows.push_back({.name = "tan", .call = unary<weft::tan>});
  rows.push_back({.name = "tanh", .call = unary<weft::tanh>});
  rows.push_back({.name = "sinh", .call = unary<weft::sinh>});
  rows.push_back({.name = "cosh", .call = unary<weft::cosh>});
  rows.push_back({.name = "atan", .call = unary<weft::atan>});
  rows.push_back({.name = "sigmoid", .call = unary<weft::sigmoid>});
  rows.push_back({.name = "silu", .call = unary<weft::silu>});
  rows.push_back({.name = "erf", .call = unary<weft::erf>});
  rows.push_back({.name = "square", .call = unary<weft::square>});
  rows.push_back({.name = "softsign", .call = unary<weft::softsign>});
  rows.push_back({.name = "mish", .call = unary<weft::mish>});
  rows.push_back({.name = "selu", .call = unary<weft::selu>});
  rows.push_back({.name = "hardswish", .call = unary<weft::hardswish>});
  rows.push_back({.name = "hardsigmoid", .call = unary<weft::hardsigmoid>});
  rows.push_back({.name = "relu", .call = unary<weft::relu>});
  rows.push_back({.name = "relu6", .call = unary<weft::relu6>});
  rows.push_back({.name = "logsigmoid", .call = unary<weft::logsigmoid>});
  rows.push_back({.name = "log", .call = unary<weft::log>});
  rows.push_back({.name = "log2", .call = unary<weft::log2>});
  rows.push_back({.name = "log10", .call = unary<weft::log10>});
  rows.push_back({.name = "log1p", .call = unary<weft::log1p>});
  rows.push_back({.name = "sqrt", .call = unary<weft::sqrt>});
  rows.push_back({.name = "rsqrt", .call = unary<weft::rsqrt>});
  rows.push_back({.name = "reciprocal", .call = unary<weft::reciprocal>});
  rows.push_back({.name = "asin", .call = unary<weft::asin>});
  rows.push_back({.name = "acos", .call = unary<weft::acos>});
  rows.push_back({.name = "sign", .call = unary<weft::sign>});
  rows.push_back({.name = "floor", .call = unary<weft::floor>});
  rows.push_back({.name = "ceil", .call = unary<weft::ceil>});
  rows.push_back({.name = "round", .call = unary<weft::round>});
  rows.push_back({.name = "trunc", .call = unary<weft::trunc>});
  rows.push_back({.name = "isnan", .call = unary<weft::isnan>});
  rows.push_back({.name = "isinf", .call = unary<weft::isinf>});
  rows.push_back({.name = "isfinite", .call = unary<weft::isfinite>});
  rows.push_back({.name = "logical_not", .call = unary<weft::logical_not>});
  rows.push_back({.name = "add", .call = binary<weft::add>});
  rows.push_back({.name = "sub", .call = binary<weft::sub>});
  rows.push_back({.name = "mul", .call = binary<weft::mul>});
  rows.push_back({.name = "maximum", .call = binary<weft::maximum>});
  rows.push_back({.name = "minimum", .call = binary<weft::minimum>});
  rows.push_back({.name = "atan2", .call = binary<weft::atan2>});
  rows.push_back({.name = "div", .call = binary<weft::div>});
  rows.push_back({.name = "pow", .call = binary<weft::pow>});
  rows.push_back({.name = "fmod", .call = binary<weft::fmod>});
  rows.push_back({.name = "remainder", .call = binary<weft::remainder>});
  rows.push_back({.name = "floor_divide", .call = binary<weft::floor_divide>});
  rows.push_back({.name = "eq", .call = binary<weft::eq>});
  rows.push_back({.name = "ne", .call = binary<weft::ne>});
  rows.push_back({.name = "lt", .call = binary<weft::lt>});
  rows.push_back({.name = "le", .call = binary<weft::le>});
  rows.push_back({.name = "gt", .call = binary<weft::gt>});
  rows.push_back({.name = "ge", .call = binary<weft::ge>});
  rows.push_back({.name = "logical_and", .call = binary<weft::logical_and>});
  rows.push_back({.name = "logical_or", .call = binary<weft::logical_or>});
  rows.push_back({.name = "logical_xor", .call = binary<weft::logical_xor>});
  rows.push_back({.name = "bitwise_and", .call = binary<weft::bitwise_and>});
  rows.push_back({.name = "bitwise_or", .call = binary<weft::bitwise_or>});
  rows.push_back({.name = "bitwise_xor", .call = binary<weft::bitwise_xor>});
  rows.push_back({.name = "softplus", .call = [](Args a, In x) -> Out {
                    return {softplus(x[0], a.real("beta", 1.0), a.real("threshold", 20.0))};
                  }});
  rows.push_back({.name = "elu",
                  .call = [](Args a, In x) -> Out { return {elu(x[0], a.real("alpha", 1.0))}; }});
  rows.push_back({.name = "leaky_relu", .call = [](Args a, In x) -> Out {
                    return {leaky_relu(x[0], a.real("negative_slope", 0.01))};
                  }});
  rows.push_back({.name = "hardtanh", .call = [](Args a, In x) -> Out {
                    return {hardtanh(x[0], a.real("min_val", -1.0), a.real("max_val", 1.0))};
                  }});
  rows.push_back({.name = "gelu", .call = [](Args a, In x) -> Out {
                    return {gelu(x[0], {.approximate = a.text("approximate") == "tanh"
                                                           ? GeluApproximation::tanh
                                                           : GeluApproximation::none})};
                  }});
  rows.push_back({.name = "clamp", .call = [](Args a, In x) -> Out {
                    return {clamp(x[0], bound_of(a, "min"), bound_of(a, "max"))};
                  }});
  rows.push_back(
      {.name = "glu", .call = [](Args a, In x) -> Out { return {glu(x[0], a.whole("dim", -1))}; }});
  rows.push_back({.name = "pow_scalar",
                  .call = [](Args a, In x) -> Out { return {pow(x[0], a.real("exponent"))}; }});
  rows.push_back(
      {.name = "where", .call = [](Args, In x) -> Out { return {where(x[0], x[1], x[2])}; }});
  rows.push_back({.name = "lerp", .call = [](Args a, In x) -> Out {
                    return {lerp(x[0], x[1], a.real("weight"))};
                  }});
  rows.push_back({.name = "addcmul", .call = [](Args a, In x) -> Out {
                    return {addcmul(x[0], x[1], x[2], a.real("value", 1.0))};
                  }});
  rows.push_back({.name = "addcdiv", .call = [](Args a, In x) -> Out {
                    return {addcdiv(x[0], x[1], x[2], a.real("value", 1.0))};
                  }});
  rows.push_back({.name = "masked_fill", .call = [](Args a, In x) -> Out {
                    return {masked_fill(x[0], x[1], a.real("value"))};
                  }});
}

}  // namespace weft::test
