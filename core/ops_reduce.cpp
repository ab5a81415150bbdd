// Reductions, as functions.
#include <algorithm>
#include <cmath>
#include <optional>

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

int64_t count_of(const Tensor& x, const ReduceAttrs& attrs) {
  int64_t count = 1;
  for (int i = 0; i < x.dim(); ++i)
    if (attrs.reduces(i)) count *= x.shape()[i];
  return count;
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

Tensor var(const Tensor& x, const VarOptions& options) {
  const ReduceAttrs attrs = reduce_attrs("var", x, options.dim, options.keepdim);
  const double n = static_cast<double>(count_of(x, attrs));
  const Tensor centred = x - mean(x, {.dim = options.dim, .keepdim = true});
  const Tensor squares = run(OpId::sum, attrs, square(centred));
  return squares / std::max(n - options.correction, 0.0);
}

Tensor std(const Tensor& x, const VarOptions& options) {
  // Through norm, whose derivative at 0 is 0.
  ReduceAttrs attrs = reduce_attrs("std", x, options.dim, options.keepdim);
  attrs.value = 2;
  const double n = static_cast<double>(count_of(x, attrs));
  const Tensor centred = x - mean(x, {.dim = options.dim, .keepdim = true});
  return run(OpId::norm, attrs, centred) / std::sqrt(std::max(n - options.correction, 0.0));
}

Tensor logsumexp(const Tensor& x, const ReduceOptions& options) {
  ReduceAttrs attrs = reduce_attrs("logsumexp", x, options.dim, options.keepdim);
  ReduceAttrs kept = attrs;
  kept.keepdim = true;
  // The largest element is taken off first; where it is infinite, nothing is.
  const Tensor most = run(OpId::amax, kept, x.detach());
  const Tensor shift = where(isfinite(most), most, 0.0);
  const Tensor result = log(run(OpId::sum, kept, exp(x - shift))) + shift;
  if (options.keepdim) return result;
  Shape shape;
  for (int i = 0; i < x.dim(); ++i)
    if (!attrs.reduces(i)) shape.push_back(x.shape()[i]);
  return reshape(result, shape);
}

namespace {

std::pair<Tensor, Tensor> choose(OpId op, const char* name, const Tensor& x, int64_t dim,
                                 bool keepdim) {
  const TensorRef ref = x.checked();
  Tensor outputs[2];
  dispatch_multi(op, Attrs(DimAttrs{normalize_dim(name, dim, x.dim()), keepdim}), Inputs(&ref, 1),
                 outputs);
  return {outputs[0], outputs[1]};
}

/// Where the extremum is; of the tensor laid out flat where no dim is given.
Tensor place(OpId op, const char* name, const Tensor& x, std::optional<int64_t> dim, bool keepdim) {
  if (dim.has_value()) return choose(op, name, x.detach(), *dim, keepdim).second;
  const Tensor at = choose(op, name, reshape(x.detach(), {x.numel()}), 0, false).second;
  if (!keepdim) return at;
  Shape shape = x.shape();
  for (int64_t& size : shape) size = 1;
  return reshape(at, shape);
}

Tensor along(OpId op, const Tensor& x, int64_t dim) {
  const TensorRef ref = x.checked();
  return dispatch(op, Attrs(DimAttrs{normalize_dim(op_info(op).name, dim, x.dim())}),
                  Inputs(&ref, 1));
}

}  // namespace

std::pair<Tensor, Tensor> max(const Tensor& x, int64_t dim, bool keepdim) {
  return choose(OpId::max_dim, "max", x, dim, keepdim);
}
std::pair<Tensor, Tensor> min(const Tensor& x, int64_t dim, bool keepdim) {
  return choose(OpId::min_dim, "min", x, dim, keepdim);
}
Tensor max(const Tensor& x) { return amax(x); }
Tensor min(const Tensor& x) { return amin(x); }
Tensor argmax(const Tensor& x, std::optional<int64_t> dim, bool keepdim) {
  return place(OpId::max_dim, "argmax", x, dim, keepdim);
}
Tensor argmin(const Tensor& x, std::optional<int64_t> dim, bool keepdim) {
  return place(OpId::min_dim, "argmin", x, dim, keepdim);
}

Tensor cumsum(const Tensor& x, int64_t dim) { return along(OpId::cumsum, x, dim); }
Tensor cumprod(const Tensor& x, int64_t dim) { return along(OpId::cumprod, x, dim); }

std::pair<Tensor, Tensor> sort(const Tensor& x, int64_t dim, bool descending) {
  const TensorRef ref = x.checked();
  Tensor outputs[2];
  dispatch_multi(OpId::sort,
                 Attrs(DimAttrs{normalize_dim("sort", dim, x.dim()), false, descending}),
                 Inputs(&ref, 1), outputs);
  return {outputs[0], outputs[1]};
}

Tensor argsort(const Tensor& x, int64_t dim, bool descending) {
  return sort(x.detach(), dim, descending).second;
}

std::pair<Tensor, Tensor> topk(const Tensor& x, int64_t k, int64_t dim, bool largest) {
  const int d = normalize_dim("topk", dim, x.dim());
  const int64_t size = x.dim() == 0 ? 1 : x.shape()[d];
  WEFT_CHECK(ArgumentError, k >= 0 && k <= size, "topk: k {} of {} elements along dim {}", k, size,
             d);
  const auto [values, places] = sort(x, d, largest);
  if (x.dim() == 0) return {values, places};
  return {narrow(values, d, 0, k), narrow(places, d, 0, k)};
}

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
