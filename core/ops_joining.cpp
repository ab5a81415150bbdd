// Joining, repeating and placing, as functions.
#include <algorithm>
#include <vector>

#include <weft/core/base/check.hpp>
#include <weft/core/infer.hpp>
#include <weft/core/op.hpp>
#include <weft/core/ops.hpp>
#include <weft/core/ops_internal.hpp>
#include <weft/core/row_attrs.hpp>
#include <weft/core/view_attrs.hpp>

namespace weft::inline v0 {

Tensor cat(const std::vector<Tensor>& tensors, int64_t dim) {
  WEFT_CHECK(ArgumentError, !tensors.empty(), "cat: the list of tensors is empty");
  std::vector<TensorRef> refs;
  for (const Tensor& x : tensors) refs.push_back(x.checked());
  const DType dtype = result_type(refs);
  std::vector<Tensor> converted;
  for (size_t i = 0; i < tensors.size(); ++i) {
    WEFT_CHECK(ArgumentError, tensors[i].dim() > 0,
               "cat: tensor {} is 0-d; stack joins such tensors", i);
    if (tensors[i].dtype() == dtype) continue;
    converted.push_back(tensors[i].to(dtype));
    refs[i] = converted.back().impl();
  }
  return dispatch(OpId::cat, Attrs(DimAttrs{normalize_dim("cat", dim, tensors[0].dim())}), refs);
}

Tensor stack(const std::vector<Tensor>& tensors, int64_t dim) {
  WEFT_CHECK(ArgumentError, !tensors.empty(), "stack: the list of tensors is empty");
  const int d = normalize_dim("stack", dim, tensors[0].dim() + 1);
  std::vector<Tensor> pieces;
  for (const Tensor& x : tensors) {
    WEFT_CHECK(ArgumentError, x.shape() == tensors[0].shape(), "stack: shapes {} and {} differ",
               to_string(tensors[0].shape()), to_string(x.shape()));
    pieces.push_back(unsqueeze(x, d));
  }
  return cat(pieces, d);
}

Tensor repeat(const Tensor& x, const Dims& repeats) {
  const int extra = repeats.rank() - x.dim();
  WEFT_CHECK(ArgumentError, extra >= 0, "repeat: {} repeats for a tensor of shape {}",
             repeats.rank(), to_string(x.shape()));
  for (const int64_t count : repeats)
    WEFT_CHECK(ArgumentError, count >= 0, "repeat: a count below 0 in {}", to_string(repeats));
  Shape shape;
  for (int i = 0; i < repeats.rank(); ++i) shape.push_back(i < extra ? 1 : x.shape()[i - extra]);
  Tensor result = extra > 0 ? reshape(x, shape) : x;
  for (int i = 0; i < repeats.rank(); ++i) {
    if (repeats[i] == 1) continue;
    if (repeats[i] == 0) {
      result = slice(result, i, 0, 0);
      continue;
    }
    result = cat(std::vector<Tensor>(static_cast<size_t>(repeats[i]), result), i);
  }
  return result.is_same(x) ? x.clone() : result;
}

Tensor repeat_interleave(const Tensor& x, int64_t repeats, int64_t dim) {
  WEFT_CHECK(ArgumentError, repeats >= 0, "repeat_interleave: {} repeats", repeats);
  WEFT_CHECK(ArgumentError, x.dim() > 0, "repeat_interleave: a 0-d tensor has no dim to repeat");
  const int d = normalize_dim("repeat_interleave", dim, x.dim());
  Shape shape = x.shape();
  shape[d] *= repeats;
  if (x.dim() == kMaxRank) {
    // No room for a dim of repeats: joins around the dim instead.
    const Shape rows = {x.shape().numel() / std::max<int64_t>(x.shape()[d], 1), x.shape()[d]};
    const Tensor flat = reshape(movedim(x, d, -1), rows);
    Shape moved = movedim(x, d, -1).shape();
    moved[kMaxRank - 1] *= repeats;
    return movedim(reshape(repeat_interleave(flat, repeats, 1), moved), -1, d);
  }
  Shape wide = x.shape();
  wide.insert(d + 1, repeats);
  return reshape(expand(unsqueeze(x, d + 1), wide), shape);
}

namespace {

Tensor run(OpId op, const Attrs& attrs, const Tensor& x) {
  const TensorRef ref = x.checked();
  return dispatch(op, attrs, Inputs(&ref, 1));
}

}  // namespace

Tensor tril(const Tensor& x, int64_t diagonal) {
  return run(OpId::tril, Attrs(DimAttrs{0, false, diagonal}), x);
}
Tensor triu(const Tensor& x, int64_t diagonal) {
  return run(OpId::triu, Attrs(DimAttrs{0, false, diagonal}), x);
}

Tensor flip(const Tensor& x, const Dims& dims) {
  uint32_t flipped = 0;
  for (const int64_t dim : dims) {
    const int d = normalize_dim("flip", dim, x.dim());
    WEFT_CHECK(ArgumentError, !(flipped >> d & 1u), "flip: dim {} twice in {}", d, to_string(dims));
    flipped |= 1u << d;
  }
  return run(OpId::flip, Attrs(flipped), x);
}

Tensor roll(const Tensor& x, int64_t shifts, int64_t dim) {
  WEFT_CHECK(ArgumentError, x.dim() > 0, "roll: a 0-d tensor has no dim to roll");
  const int d = normalize_dim("roll", dim, x.dim());
  const int64_t size = x.shape()[d];
  const int64_t shift = size == 0 ? 0 : ((shifts % size) + size) % size;
  return cat({narrow(x, d, size - shift, shift), narrow(x, d, 0, size - shift)}, d);
}

namespace {

PadAttrs pad_attrs(const Tensor& x, const std::vector<int64_t>& padding) {
  const size_t dims = padding.size() / 2;
  WEFT_CHECK(ArgumentError, padding.size() % 2 == 0 && dims <= static_cast<size_t>(x.dim()),
             "pad: {} numbers for shape {}; two for each dim, from the last one on", padding.size(),
             to_string(x.shape()));
  PadAttrs attrs;
  for (size_t i = 0; i < dims; ++i) {
    const size_t dim = static_cast<size_t>(x.dim()) - 1 - i;
    attrs.before[dim] = static_cast<int32_t>(padding[2 * i]);
    attrs.after[dim] = static_cast<int32_t>(padding[2 * i + 1]);
  }
  return attrs;
}

}  // namespace

Tensor pad(const Tensor& x, const std::vector<int64_t>& padding, double value) {
  PadAttrs attrs = pad_attrs(x, padding);
  attrs.value = value;
  return x.dim() == 0 ? x : run(OpId::pad, Attrs(attrs), x);
}

Tensor pad(const Tensor& x, const std::vector<int64_t>& padding, PadMode mode) {
  PadAttrs attrs = pad_attrs(x, padding);
  attrs.mode = mode;
  if (mode != PadMode::constant)
    for (int i = 0; i < x.dim(); ++i) {
      // A mirror shows no more than lies beside the edge; an edge must exist to be repeated.
      const int64_t most = mode == PadMode::reflect ? x.shape()[i] - 1 : INT32_MAX;
      const bool none = attrs.before[i] == 0 && attrs.after[i] == 0;
      WEFT_CHECK(ArgumentError,
                 none || (x.shape()[i] > 0 && attrs.before[i] >= 0 && attrs.after[i] >= 0 &&
                          attrs.before[i] <= most && attrs.after[i] <= most),
                 "pad: {} and {} do not fit beside dim {} of shape {} in mode {}", attrs.before[i],
                 attrs.after[i], i, to_string(x.shape()),
                 mode == PadMode::reflect ? "reflect" : "replicate");
    }
  return x.dim() == 0 ? x : run(OpId::pad, Attrs(attrs), x);
}

namespace detail {
Tensor pad_backward(const Tensor& grad, const PadAttrs& attrs) {
  return run(OpId::pad_backward, Attrs(attrs), grad);
}
Tensor pad_with(const Tensor& x, const PadAttrs& attrs) { return run(OpId::pad, Attrs(attrs), x); }

Tensor zero_scatter_slice(const Tensor& gradient, const Shape& shape, int dim, int64_t start,
                          int64_t step) {
  const TensorRef ref = gradient.checked();
  return dispatch(OpId::zero_scatter_slice,
                  Attrs(ZeroScatterAttrs{AsShapeAttrs(shape), dim, start, step}), Inputs(&ref, 1));
}
}  // namespace detail

}  // namespace weft::inline v0
