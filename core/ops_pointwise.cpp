// Pointwise ops: operators on one, two and three tensors, and their in-place forms.
#include <weft/core/base/check.hpp>
#include <weft/core/ops.hpp>
#include <weft/core/pointwise_attrs.hpp>
#include <weft/core/pointwise_ops.hpp>

namespace weft::inline v0 {

using detail::run_op;
using detail::wrap_number;

#define WEFT_BINARY(name)                                                                     \
  Tensor name(const Tensor& a, const Tensor& b) { return run_op(OpId::name, a, b); }          \
  Tensor name(const Tensor& a, Scalar b) { return run_op(OpId::name, a, wrap_number(b, a)); } \
  Tensor name(Scalar a, const Tensor& b) { return run_op(OpId::name, wrap_number(a, b), b); }
WEFT_BINARY(add)
WEFT_BINARY(mul)
#undef WEFT_BINARY

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
Tensor& Tensor::mul_(const Tensor& other) { return run_into(OpId::mul, *this, other); }
Tensor& Tensor::mul_(Scalar other) { return run_into(OpId::mul, *this, wrap_number(other, *this)); }

}  // namespace weft::inline v0
