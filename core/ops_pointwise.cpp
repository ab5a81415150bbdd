// Pointwise ops: functions and operators on one, two and three tensors, and their in-place forms.
#include <weft/core/base/check.hpp>
#include <weft/core/ops.hpp>
#include <weft/core/pointwise_attrs.hpp>
#include <weft/core/pointwise_ops.hpp>

namespace weft::inline v0 {

using detail::run_op;
using detail::wrap_number;

#define WEFT_UNARY(name) \
  Tensor name(const Tensor& x) { return run_op(OpId::name, x); }
WEFT_UNARY(neg)
WEFT_UNARY(abs)
WEFT_UNARY(sign)
WEFT_UNARY(floor)
WEFT_UNARY(ceil)
WEFT_UNARY(round)
WEFT_UNARY(trunc)
WEFT_UNARY(exp)
WEFT_UNARY(expm1)
WEFT_UNARY(log)
WEFT_UNARY(log2)
WEFT_UNARY(log10)
WEFT_UNARY(log1p)
WEFT_UNARY(sqrt)
WEFT_UNARY(rsqrt)
WEFT_UNARY(reciprocal)
WEFT_UNARY(sin)
WEFT_UNARY(cos)
WEFT_UNARY(tan)
WEFT_UNARY(asin)
WEFT_UNARY(acos)
WEFT_UNARY(atan)
WEFT_UNARY(sinh)
WEFT_UNARY(cosh)
WEFT_UNARY(tanh)
WEFT_UNARY(erf)
WEFT_UNARY(isnan)
WEFT_UNARY(isinf)
WEFT_UNARY(isfinite)
WEFT_UNARY(logical_not)
#undef WEFT_UNARY

Tensor square(const Tensor& x) { return mul(x, x); }

#define WEFT_TENSORS(name) \
  Tensor name(const Tensor& a, const Tensor& b) { return run_op(OpId::name, a, b); }
#define WEFT_SCALAR_RIGHT(name) \
  Tensor name(const Tensor& a, Scalar b) { return run_op(OpId::name, a, wrap_number(b, a)); }
#define WEFT_SCALAR_LEFT(name) \
  Tensor name(Scalar a, const Tensor& b) { return run_op(OpId::name, wrap_number(a, b), b); }
#define WEFT_BINARY(name) \
  WEFT_TENSORS(name)      \
  WEFT_SCALAR_RIGHT(name) \
  WEFT_SCALAR_LEFT(name)
WEFT_BINARY(add)
WEFT_BINARY(sub)
WEFT_BINARY(mul)
WEFT_BINARY(div)
WEFT_BINARY(maximum)
WEFT_BINARY(minimum)
WEFT_BINARY(atan2)
WEFT_BINARY(fmod)
WEFT_BINARY(remainder)
WEFT_BINARY(floor_divide)
WEFT_BINARY(eq)
WEFT_BINARY(ne)
WEFT_BINARY(lt)
WEFT_BINARY(le)
WEFT_BINARY(gt)
WEFT_BINARY(ge)
WEFT_TENSORS(pow)
WEFT_SCALAR_LEFT(pow)
WEFT_TENSORS(logical_and)
WEFT_TENSORS(logical_or)
WEFT_TENSORS(logical_xor)
WEFT_TENSORS(bitwise_and)
WEFT_TENSORS(bitwise_or)
WEFT_TENSORS(bitwise_xor)
#undef WEFT_TENSORS
#undef WEFT_SCALAR_RIGHT
#undef WEFT_SCALAR_LEFT
#undef WEFT_BINARY

Tensor pow(const Tensor& a, Scalar b) {
  WEFT_CHECK(ArgumentError, is_floating(a.dtype()) || b.is_real() || b.to_int() >= 0,
             "pow: a whole number ({}) to the negative power {} is no whole number; convert the "
             "base with .to(DType::f32)",
             name_of(a.dtype()), b.to_int());
  // The powers that models use need no logarithm.
  const double exponent = b.to_double();
  if (exponent == 2 && (!b.is_real() || a.is_floating_point())) return mul(a, a);
  if (exponent == 0.5 && a.is_floating_point()) return sqrt(a);
  return run_op(OpId::pow, a, wrap_number(b, a));
}

Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b) {
  return run_op(OpId::where, condition, a, b);
}
Tensor where(const Tensor& condition, const Tensor& a, Scalar b) {
  return run_op(OpId::where, condition, a, wrap_number(b, a));
}
Tensor where(const Tensor& condition, Scalar a, const Tensor& b) {
  return run_op(OpId::where, condition, wrap_number(a, b), b);
}

Tensor masked_fill(const Tensor& x, const Tensor& mask, Scalar value) {
  WEFT_CHECK(ArgumentError, mask.dtype() == DType::boolean,
             "masked_fill: the mask must be bool, got {}; compare it, as in ne(mask, 0)",
             name_of(mask.dtype()));
  WEFT_CHECK(ArgumentError, x.is_floating_point() || !value.is_real(),
             "masked_fill: the value {} does not fit into a {} tensor", value.to_double(),
             name_of(x.dtype()));
  return where(mask, value, x);
}

Tensor lerp(const Tensor& a, const Tensor& b, double weight) {
  return run_op(OpId::lerp, a, b, Attrs(weight));
}
Tensor addcmul(const Tensor& x, const Tensor& a, const Tensor& b, double value) {
  return run_op(OpId::addcmul, x, a, b, Attrs(value));
}
Tensor addcdiv(const Tensor& x, const Tensor& a, const Tensor& b, double value) {
  return run_op(OpId::addcdiv, x, a, b, Attrs(value));
}

namespace {

Tensor& run_into(OpId op, Tensor& target, const Tensor& other) {
  const Tensor operand = detail::apart_from(other, target);
  const TensorRef refs[] = {target.checked(), operand.checked()};
  dispatch_into(op, Attrs(), refs, target);
  return target;
}

}  // namespace

Tensor& Tensor::add_(const Tensor& other, Scalar alpha) {
  const bool once = alpha.to_double() == 1.0;
  return run_into(OpId::add, *this, once ? other : mul(other, alpha));
}
Tensor& Tensor::add_(Scalar other) { return run_into(OpId::add, *this, wrap_number(other, *this)); }
Tensor& Tensor::sub_(const Tensor& other) { return run_into(OpId::sub, *this, other); }
Tensor& Tensor::mul_(const Tensor& other) { return run_into(OpId::mul, *this, other); }
Tensor& Tensor::mul_(Scalar other) { return run_into(OpId::mul, *this, wrap_number(other, *this)); }
Tensor& Tensor::div_(const Tensor& other) { return run_into(OpId::div, *this, other); }
Tensor& Tensor::div_(Scalar other) { return run_into(OpId::div, *this, wrap_number(other, *this)); }

}  // namespace weft::inline v0
