// What the public pointwise functions share. Not for users.
#pragma once

#include <weft/core/op.hpp>

namespace weft::inline v0::detail {

/// A C++ number as an operand beside `like`: 0-d, on its device, weak in promotion.
Tensor wrap_number(Scalar value, const Tensor& like);

/// A copy of packed elements on another device, not recorded.
Tensor transfer(const Tensor& x, Device device);

/// `x`, or a copy of it where writing into `target` would overwrite elements of it that are still
/// to be read: same storage, another layout.
Tensor apart_from(const Tensor& x, const Tensor& target);

inline Tensor run_op(OpId op, const Tensor& x, const Attrs& attrs = Attrs()) {
  const TensorRef ref = x.checked();
  return dispatch(op, attrs, Inputs(&ref, 1));
}

inline Tensor run_op(OpId op, const Tensor& a, const Tensor& b, const Attrs& attrs = Attrs()) {
  const TensorRef refs[] = {a.checked(), b.checked()};
  return dispatch(op, attrs, refs);
}

inline Tensor run_op(OpId op, const Tensor& a, const Tensor& b, const Tensor& c,
                     const Attrs& attrs = Attrs()) {
  const TensorRef refs[] = {a.checked(), b.checked(), c.checked()};
  return dispatch(op, attrs, refs);
}

}  // namespace weft::inline v0::detail
