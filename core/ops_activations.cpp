// Activations, clamping, dropout.
#include <weft/core/base/check.hpp>
#include <weft/core/ops.hpp>
#include <weft/core/pointwise_attrs.hpp>
#include <weft/core/pointwise_ops.hpp>

namespace weft::inline v0 {

using detail::run_op;

#define WEFT_UNARY(name) \
  Tensor name(const Tensor& x) { return run_op(OpId::name, x); }
WEFT_UNARY(sigmoid)
WEFT_UNARY(relu)
WEFT_UNARY(silu)
WEFT_UNARY(mish)
WEFT_UNARY(hardswish)
WEFT_UNARY(hardsigmoid)
WEFT_UNARY(softsign)
WEFT_UNARY(logsigmoid)
#undef WEFT_UNARY

namespace {

Attrs bounds(double min, double max) {
  return Attrs(ClampAttrs{NumberAttr(min), NumberAttr(max), true, true});
}

}  // namespace

Tensor relu6(const Tensor& x) { return hardtanh(x, 0.0, 6.0); }

Tensor selu(const Tensor& x) {
  // The fixed point of the paper: activations keep mean 0 and variance 1.
  constexpr double kAlpha = 1.6732632423543772848, kScale = 1.0507009873554804934;
  return run_op(OpId::elu, x, Attrs(EluAttrs{kAlpha, kScale}));
}

Tensor gelu(const Tensor& x, GeluOptions options) {
  return run_op(options.approximate == GeluApproximation::tanh ? OpId::gelu_tanh : OpId::gelu, x);
}

Tensor softplus(const Tensor& x, double beta, double threshold) {
  WEFT_CHECK(ArgumentError, beta != 0, "softplus: beta is 0");
  return run_op(OpId::softplus, x, Attrs(SoftplusAttrs{beta, threshold}));
}

Tensor elu(const Tensor& x, double alpha) {
  return run_op(OpId::elu, x, Attrs(EluAttrs{alpha, 1.0}));
}

Tensor leaky_relu(const Tensor& x, double negative_slope) {
  return run_op(OpId::leaky_relu, x, Attrs(negative_slope));
}

Tensor hardtanh(const Tensor& x, double min, double max) {
  WEFT_CHECK(ArgumentError, min <= max, "hardtanh: min {} is above max {}", min, max);
  WEFT_CHECK(ArgumentError, x.is_floating_point(),
             "hardtanh: needs a floating-point tensor, got {}; use clamp", name_of(x.dtype()));
  return run_op(OpId::hardtanh, x, bounds(min, max));
}

Tensor clamp(const Tensor& x, std::optional<Scalar> min, std::optional<Scalar> max) {
  WEFT_CHECK(ArgumentError, min || max, "clamp: neither min nor max is given");
  ClampAttrs attrs;
  attrs.has_min = min.has_value();
  attrs.has_max = max.has_value();
  if (min) attrs.min = NumberAttr(*min);
  if (max) attrs.max = NumberAttr(*max);
  const bool real = (min && min->is_real()) || (max && max->is_real());
  const bool converts = real && !x.is_floating_point();
  return run_op(OpId::clamp, converts ? x.to(DType::f32) : x, Attrs(attrs));
}

Tensor glu(const Tensor& x, int64_t dim) {
  const int64_t size = x.size(dim);
  WEFT_CHECK(ArgumentError, size % 2 == 0,
             "glu: dim {} of shape {} has an odd size and cannot be halved", dim,
             to_string(x.shape()));
  return mul(narrow(x, dim, 0, size / 2), sigmoid(narrow(x, dim, size / 2, size / 2)));
}

Tensor dropout(const Tensor& x, double p, bool training) {
  WEFT_CHECK(ArgumentError, p >= 0 && p <= 1, "dropout: p is a probability, got {}", p);
  if (!training || p == 0) return x;
  const PhiloxState state = reserve_random(static_cast<uint64_t>(x.numel()));
  return run_op(OpId::dropout, x, Attrs(DropoutAttrs{p, state}));
}

}  // namespace weft::inline v0
