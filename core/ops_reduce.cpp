// Reductions, as functions.
#include <limits>

#include <weft/core/base/check.hpp>
#include <weft/core/op.hpp>
#include <weft/core/ops.hpp>
#include <weft/core/row_attrs.hpp>

namespace weft::inline v0 {

namespace {

/// The dims as bits; an empty list means all of them.
ReduceAttrs reduce_attrs(const char* op, const Tensor& x, const Dims& dims, bool keepdim) {
  ReduceAttrs attrs;
  attrs.keepdim = keepdim;
  const int rank = x.dim();
  if (dims.empty()) attrs.dims = (1u << rank) - 1;
  for (const int64_t dim : dims) {
    const int d = normalize_dim(op, dim, rank);
    WEFT_CHECK(ArgumentError, !attrs.reduces(d), "{}: dim {} twice in {}", op, d, to_string(dims));
    if (rank > 0) attrs.dims |= 1u << d;
  }
  return attrs;
}

Tensor run(OpId op, const ReduceAttrs& attrs, const Tensor& x) {
  const TensorRef ref = x.checked();
  return dispatch(op, Attrs(attrs), Inputs(&ref, 1));
}

Tensor reduce(OpId op, const Tensor& x, const ReduceOptions& options) {
  return run(op, reduce_attrs(op_info(op).name, x, options.dim, options.keepdim), x);
}

}  // namespace

Tensor sum(const Tensor& x, const ReduceOptions& options) { return reduce(OpId::sum, x, options); }
Tensor mean(const Tensor& x, const ReduceOptions& options) {
  return reduce(OpId::mean, x, options);
}
Tensor amax(const Tensor& x, const ReduceOptions& options) {
  return reduce(OpId::amax, x, options);
}
Tensor amin(const Tensor& x, const ReduceOptions& options) {
  return reduce(OpId::amin, x, options);
}
Tensor prod(const Tensor& x, const ReduceOptions& options) {
  return reduce(OpId::prod, x, options);
}
Tensor all(const Tensor& x, const ReduceOptions& options) { return reduce(OpId::all, x, options); }
Tensor any(const Tensor& x, const ReduceOptions& options) { return reduce(OpId::any, x, options); }

Tensor norm(const Tensor& x, double p, const ReduceOptions& options) {
  ReduceAttrs attrs = reduce_attrs("norm", x, options.dim, options.keepdim);
  attrs.value = p;
  return run(OpId::norm, attrs, x);
}

Tensor max(const Tensor& x) { return amax(x); }
Tensor min(const Tensor& x) { return amin(x); }

Tensor sum_to(const Tensor& x, const Shape& shape) {
  const int extra = x.dim() - shape.rank();
  WEFT_CHECK(ArgumentError, extra >= 0, "sum_to: shape {} has more dims than {}", to_string(shape),
             to_string(x.shape()));
  ReduceAttrs attrs;
  attrs.keepdim = true;
  for (int i = 0; i < x.dim(); ++i) {
    const int64_t want = i < extra ? 1 : shape[i - extra];
    WEFT_CHECK(ArgumentError, want == x.shape()[i] || want == 1,
               "sum_to: {} was not broadcast from {}", to_string(x.shape()), to_string(shape));
    if (i < extra || want != x.shape()[i]) attrs.dims |= 1u << i;
  }
  if (attrs.dims == 0) return x;
  const Tensor summed = run(OpId::sum, attrs, x);
  return extra > 0 ? reshape(summed, shape) : summed;
}

}  // namespace weft::inline v0
