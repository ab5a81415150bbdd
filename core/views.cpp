// Views: other shapes, strides and offsets over the same storage.
#include <algorithm>

#include <weft/core/base/check.hpp>
#include <weft/core/infer.hpp>
#include <weft/core/ops.hpp>
#include <weft/core/view_attrs.hpp>

namespace weft::inline v0 {

namespace infer {

namespace {

void inherit(InferCall& call) {
  OutputSpec& out = call.outputs[0];
  out.shape = call.inputs[0]->shape;
  out.strides = call.inputs[0]->strides;
  out.dtype = call.inputs[0]->dtype;
}

}  // namespace

/// Any shape, strides and offset; the caller checked them.
void as_shape(InferCall& call) {
  const auto attrs = call.attrs.as<AsShapeAttrs>();
  call.outputs[0].shape = attrs.shape();
  call.outputs[0].dtype = call.inputs[0]->dtype;
  const bool fits = detail::view_strides(call.inputs[0]->shape, call.inputs[0]->strides,
                                         call.outputs[0].shape, call.outputs[0].strides);
  WEFT_CHECK(ArgumentError, fits,
             "view: shape {} with strides {} cannot be seen as {} without a copy; use reshape",
             to_string(call.inputs[0]->shape), to_string(call.inputs[0]->strides),
             to_string(call.outputs[0].shape));
}

void permute(InferCall& call) {
  const TensorRef x = call.inputs[0];
  const auto attrs = call.attrs.as<PermuteAttrs>();
  inherit(call);
  for (int i = 0; i < x->rank(); ++i) {
    call.outputs[0].shape[i] = x->shape[attrs.source[i]];
    call.outputs[0].strides[i] = x->strides[attrs.source[i]];
  }
}

void expand(InferCall& call) {
  const TensorRef x = call.inputs[0];
  const Shape shape = call.attrs.as<AsShapeAttrs>().shape();
  OutputSpec& out = call.outputs[0];
  out.dtype = x->dtype;
  out.shape = shape;
  out.strides = shape;
  const int shift = shape.rank() - x->rank();
  for (int i = 0; i < shape.rank(); ++i)
    out.strides[i] =
        i < shift || (x->shape[i - shift] == 1 && shape[i] != 1) ? 0 : x->strides[i - shift];
}

void slice(InferCall& call) {
  const auto attrs = call.attrs.as<SliceAttrs>();
  inherit(call);
  OutputSpec& out = call.outputs[0];
  out.offset = attrs.start * out.strides[attrs.dim];
  out.shape[attrs.dim] =
      std::max<int64_t>(0, (attrs.end - attrs.start + attrs.step - 1) / attrs.step);
  out.strides[attrs.dim] *= attrs.step;
}

void select(InferCall& call) {
  const auto attrs = call.attrs.as<SliceAttrs>();
  inherit(call);
  OutputSpec& out = call.outputs[0];
  out.offset = attrs.start * out.strides[attrs.dim];
  out.shape.erase(attrs.dim);
  out.strides.erase(attrs.dim);
}

void split(InferCall& call) {
  const auto attrs = call.attrs.as<SplitAttrs>();
  const TensorRef x = call.inputs[0];
  int64_t start = 0;
  for (int i = 0; i < attrs.count; ++i) {
    OutputSpec& out = call.outputs[i];
    out.shape = x->shape;
    out.strides = x->strides;
    out.dtype = x->dtype;
    out.shape[attrs.dim] = attrs.sizes[i];
    out.offset = start * x->strides[attrs.dim];
    start += attrs.sizes[i];
  }
}

void unsqueeze(InferCall& call) {
  const int dim = call.attrs.as<int>();
  inherit(call);
  OutputSpec& out = call.outputs[0];
  const bool last = dim == out.shape.rank();
  const int64_t stride = last ? 1 : out.shape[dim] * out.strides[dim];
  out.shape.insert(dim, 1);
  out.strides.insert(dim, stride);
}

void squeeze(InferCall& call) {
  const auto dropped = call.attrs.as<uint32_t>();
  inherit(call);
  OutputSpec& out = call.outputs[0];
  for (int i = out.shape.rank() - 1; i >= 0; --i)
    if (dropped >> i & 1u) {
      out.shape.erase(i);
      out.strides.erase(i);
    }
}

void diagonal(InferCall& call) {
  const auto offset = call.attrs.as<int64_t>();
  inherit(call);
  OutputSpec& out = call.outputs[0];
  const int rank = out.shape.rank();
  const int64_t rows = out.shape[rank - 2], columns = out.shape[rank - 1];
  const int64_t row_stride = out.strides[rank - 2], column_stride = out.strides[rank - 1];
  const int64_t length =
      offset >= 0 ? std::min(rows, columns - offset) : std::min(rows + offset, columns);
  out.offset = offset >= 0 ? offset * column_stride : -offset * row_stride;
  out.shape.erase(rank - 1);
  out.strides.erase(rank - 1);
  out.shape[rank - 2] = std::max<int64_t>(length, 0);
  out.strides[rank - 2] = row_stride + column_stride;
  if (length <= 0) out.offset = 0;
}

}  // namespace infer

namespace detail {

bool view_strides(const Shape& from, const Strides& strides, const Shape& to, Strides& result) {
  result = contiguous_strides(to);
  if (from.numel() == 0 || to.numel() == 0) return true;
  // Walks both shapes from the back. A run of old dims that lie packed behind each other may be cut
  // into new dims at will; a new dim must not cross from one run into the next.
  int t = to.rank() - 1;
  int64_t run = 1, base = from.rank() > 0 ? strides[from.rank() - 1] : 1, taken = 1;
  for (int f = from.rank() - 1; f >= 0; --f) {
    run *= from[f];
    const bool run_ends = f == 0 || (from[f - 1] != 1 && strides[f - 1] != run * base);
    if (!run_ends) continue;
    while (t >= 0 && (taken < run || to[t] == 1)) {
      result[t] = taken * base;
      taken *= to[t];
      --t;
    }
    if (taken != run) return false;
    if (f > 0) base = strides[f - 1];
    run = taken = 1;
  }
  while (t >= 0 && to[t] == 1) --t;
  return t < 0;
}

Shape resolve_shape(const char* op, const Shape& from, const Shape& to) {
  Shape shape = to;
  int unknown = -1;
  int64_t known = 1;
  for (int i = 0; i < to.rank(); ++i) {
    WEFT_CHECK(ArgumentError, to[i] >= -1, "{}: size {} in shape {}", op, to[i], to_string(to));
    if (to[i] == -1) {
      WEFT_CHECK(ArgumentError, unknown < 0, "{}: more than one -1 in shape {}", op, to_string(to));
      unknown = i;
    } else {
      known *= to[i];
    }
  }
  const int64_t numel = from.numel();
  if (unknown >= 0) {
    WEFT_CHECK(ArgumentError, known > 0 && numel % known == 0,
               "{}: shape {} with {} elements does not fit into {}", op, to_string(from), numel,
               to_string(to));
    shape[unknown] = numel / known;
  } else {
    WEFT_CHECK(ArgumentError, known == numel, "{}: shape {} has {} elements, {} has {}", op,
               to_string(from), numel, to_string(to), known);
  }
  return shape;
}

}  // namespace detail

namespace {

Tensor run_view(OpId op, const Attrs& attrs, const Tensor& x) {
  const TensorRef ref = x.checked();
  return dispatch(op, attrs, Inputs(&ref, 1));
}

}  // namespace

Tensor view(const Tensor& x, const Shape& shape) {
  return run_view(OpId::as_shape,
                  Attrs(AsShapeAttrs(detail::resolve_shape("view", x.shape(), shape))), x);
}

Tensor reshape(const Tensor& x, const Shape& shape) {
  const Shape target = detail::resolve_shape("reshape", x.shape(), shape);
  Strides strides;
  const bool fits = detail::view_strides(x.shape(), x.strides(), target, strides);
  return run_view(OpId::as_shape, Attrs(AsShapeAttrs(target)), fits ? x : x.contiguous());
}

Tensor permute(const Tensor& x, const Dims& dims) {
  const int rank = x.dim();
  WEFT_CHECK(ArgumentError, dims.rank() == rank, "permute: {} dims for a tensor of shape {}",
             dims.rank(), to_string(x.shape()));
  PermuteAttrs attrs;
  uint32_t seen = 0;
  for (int i = 0; i < rank; ++i) {
    const int dim = normalize_dim("permute", dims[i], rank);
    WEFT_CHECK(ArgumentError, !(seen >> dim & 1u), "permute: dim {} twice in {}", dim,
               to_string(dims));
    seen |= 1u << dim;
    attrs.source[i] = static_cast<uint8_t>(dim);
  }
  return run_view(OpId::permute, Attrs(attrs), x);
}

Tensor transpose(const Tensor& x, int64_t dim0, int64_t dim1) {
  const int rank = x.dim();
  const int a = normalize_dim("transpose", dim0, rank), b = normalize_dim("transpose", dim1, rank);
  PermuteAttrs attrs;
  for (int i = 0; i < kMaxRank; ++i) attrs.source[i] = static_cast<uint8_t>(i);
  std::swap(attrs.source[a], attrs.source[b]);
  return run_view(OpId::permute, Attrs(attrs), x);
}

Tensor movedim(const Tensor& x, int64_t source, int64_t destination) {
  const int rank = x.dim();
  const int from = normalize_dim("movedim", source, rank),
            to = normalize_dim("movedim", destination, rank);
  Dims order;
  for (int i = 0; i < rank; ++i)
    if (i != from) order.push_back(i);
  order.insert(to, from);
  return permute(x, order);
}

Tensor unsqueeze(const Tensor& x, int64_t dim) {
  return run_view(OpId::unsqueeze, Attrs(normalize_dim("unsqueeze", dim, x.dim() + 1)), x);
}

Tensor squeeze(const Tensor& x) {
  uint32_t dropped = 0;
  for (int i = 0; i < x.dim(); ++i)
    if (x.shape()[i] == 1) dropped |= 1u << i;
  return run_view(OpId::squeeze, Attrs(dropped), x);
}

Tensor squeeze(const Tensor& x, int64_t dim) {
  const int d = normalize_dim("squeeze", dim, x.dim());
  const bool drops = x.dim() > 0 && x.shape()[d] == 1;
  return run_view(OpId::squeeze, Attrs(drops ? 1u << d : 0u), x);
}

Tensor flatten(const Tensor& x, int64_t start_dim, int64_t end_dim) {
  const int start = normalize_dim("flatten", start_dim, x.dim());
  const int end = normalize_dim("flatten", end_dim, x.dim());
  WEFT_CHECK(ArgumentError, start <= end, "flatten: start_dim {} is behind end_dim {}", start_dim,
             end_dim);
  if (x.dim() == 0) return reshape(x, {1});
  Shape shape;
  int64_t joined = 1;
  for (int i = 0; i < x.dim(); ++i) {
    if (i >= start && i <= end) joined *= x.shape()[i];
    if (i < start || i > end) shape.push_back(x.shape()[i]);
    if (i == end) shape.push_back(joined);
  }
  return reshape(x, shape);
}

Tensor expand(const Tensor& x, const Shape& shape) {
  Shape target = shape;
  const int shift = shape.rank() - x.dim();
  WEFT_CHECK(ArgumentError, shift >= 0, "expand: shape {} has fewer dims than the tensor's {}",
             to_string(shape), to_string(x.shape()));
  for (int i = 0; i < shape.rank(); ++i) {
    const int64_t have = i < shift ? 1 : x.shape()[i - shift];
    if (shape[i] == -1 && i >= shift) target[i] = have;
    WEFT_CHECK(ArgumentError, target[i] >= 0 && (target[i] == have || have == 1),
               "expand: shape {} cannot become {}: dim {} has size {}", to_string(x.shape()),
               to_string(shape), i, have);
  }
  return run_view(OpId::expand, Attrs(AsShapeAttrs(target)), x);
}

Tensor slice(const Tensor& x, int64_t dim, int64_t start, int64_t end, int64_t step) {
  WEFT_CHECK(ArgumentError, x.dim() > 0, "slice: a 0-d tensor has no dim to slice");
  WEFT_CHECK(ArgumentError, step >= 1, "slice: step {} is below 1", step);
  const int d = normalize_dim("slice", dim, x.dim());
  const int64_t size = x.shape()[d];
  const auto clamp_position = [size](int64_t position) {
    return std::clamp<int64_t>(position < 0 ? position + size : position, 0, size);
  };
  const int64_t first = clamp_position(start);
  return run_view(OpId::slice,
                  Attrs(SliceAttrs{d, first, std::max(first, clamp_position(end)), step}), x);
}

Tensor narrow(const Tensor& x, int64_t dim, int64_t start, int64_t length) {
  WEFT_CHECK(ArgumentError, x.dim() > 0, "narrow: a 0-d tensor has no dim to narrow");
  const int d = normalize_dim("narrow", dim, x.dim());
  const int64_t size = x.shape()[d], first = start < 0 ? start + size : start;
  WEFT_CHECK(ArgumentError, first >= 0 && length >= 0 && first + length <= size,
             "narrow: start {} and length {} leave dim {} of size {}", start, length, d, size);
  return run_view(OpId::slice, Attrs(SliceAttrs{d, first, first + length, 1}), x);
}

Tensor select(const Tensor& x, int64_t dim, int64_t index) {
  WEFT_CHECK(ArgumentError, x.dim() > 0, "select: a 0-d tensor has no dim to select from");
  const int d = normalize_dim("select", dim, x.dim());
  const int64_t size = x.shape()[d];
  WEFT_CHECK(ArgumentError, index >= -size && index < size,
             "select: index {} is out of range for dim {} of size {}", index, d, size);
  const int64_t position = index < 0 ? index + size : index;
  return run_view(OpId::select, Attrs(SliceAttrs{d, position, position + 1, 1}), x);
}

namespace {

/// One op for all pieces: its backward joins their gradients once, instead of adding up as many
/// tensors of zeros with a piece filled in.
std::vector<Tensor> split_checked(const Tensor& x, const std::vector<int64_t>& sizes, int dim) {
  std::vector<Tensor> pieces(sizes.size());
  if (sizes.size() <= static_cast<size_t>(SplitAttrs::kMost)) {
    SplitAttrs attrs{dim, static_cast<int32_t>(sizes.size())};
    std::copy(sizes.begin(), sizes.end(), attrs.sizes);
    dispatch_views(OpId::split, Attrs(attrs), x, pieces);
    return pieces;
  }
  int64_t start = 0;
  for (size_t i = 0; i < sizes.size(); ++i) {
    pieces[i] = narrow(x, dim, start, sizes[i]);
    start += sizes[i];
  }
  return pieces;
}

}  // namespace

std::vector<Tensor> split(const Tensor& x, const std::vector<int64_t>& sizes, int64_t dim) {
  WEFT_CHECK(ArgumentError, x.dim() > 0, "split: a 0-d tensor has no dim to split");
  const int d = normalize_dim("split", dim, x.dim());
  int64_t total = 0;
  for (const int64_t size : sizes) total += size;
  WEFT_CHECK(ArgumentError, total == x.shape()[d],
             "split: sizes {} add up to {}, dim {} has size {}", to_string(Dims(sizes)), total, d,
             x.shape()[d]);
  for (const int64_t size : sizes)
    WEFT_CHECK(ArgumentError, size >= 0, "split: negative size {} among {}", size,
               to_string(Dims(sizes)));
  return split_checked(x, sizes, d);
}

std::vector<Tensor> split(const Tensor& x, int64_t split_size, int64_t dim) {
  WEFT_CHECK(ArgumentError, x.dim() > 0, "split: a 0-d tensor has no dim to split");
  WEFT_CHECK(ArgumentError, split_size > 0, "split: split_size {} is below 1", split_size);
  const int d = normalize_dim("split", dim, x.dim());
  const int64_t size = x.shape()[d];
  std::vector<int64_t> sizes;
  int64_t start = 0;
  do {
    sizes.push_back(std::min(split_size, size - start));
    start += split_size;
  } while (start < size);
  return split_checked(x, sizes, d);
}

std::vector<Tensor> chunk(const Tensor& x, int64_t chunks, int64_t dim) {
  WEFT_CHECK(ArgumentError, chunks > 0, "chunk: {} chunks; at least 1", chunks);
  const int64_t size = x.size(dim);
  return split(x, std::max<int64_t>((size + chunks - 1) / chunks, 1), dim);
}

std::vector<Tensor> unbind(const Tensor& x, int64_t dim) {
  std::vector<Tensor> pieces;
  for (int64_t i = 0; i < x.size(dim); ++i) pieces.push_back(select(x, dim, i));
  return pieces;
}

Tensor diagonal(const Tensor& x, int64_t offset) {
  WEFT_CHECK(ArgumentError, x.dim() >= 2, "diagonal: needs at least two dims, got shape {}",
             to_string(x.shape()));
  return run_view(OpId::diagonal, Attrs(offset), x);
}

Tensor Tensor::view(const Shape& shape) const { return weft::view(*this, shape); }
Tensor Tensor::reshape(const Shape& shape) const { return weft::reshape(*this, shape); }
Tensor Tensor::transpose(int64_t dim0, int64_t dim1) const {
  return weft::transpose(*this, dim0, dim1);
}
Tensor Tensor::permute(const Dims& dims) const { return weft::permute(*this, dims); }
Tensor Tensor::unsqueeze(int64_t dim) const { return weft::unsqueeze(*this, dim); }
Tensor Tensor::squeeze() const { return weft::squeeze(*this); }
Tensor Tensor::squeeze(int64_t dim) const { return weft::squeeze(*this, dim); }
Tensor Tensor::flatten(int64_t start_dim, int64_t end_dim) const {
  return weft::flatten(*this, start_dim, end_dim);
}
Tensor Tensor::expand(const Shape& shape) const { return weft::expand(*this, shape); }
Tensor Tensor::slice(int64_t dim, int64_t start, int64_t end, int64_t step) const {
  return weft::slice(*this, dim, start, end, step);
}
Tensor Tensor::select(int64_t dim, int64_t index) const { return weft::select(*this, dim, index); }
Tensor Tensor::narrow(int64_t dim, int64_t start, int64_t length) const {
  return weft::narrow(*this, dim, start, length);
}

Tensor Tensor::t() const {
  WEFT_CHECK(ArgumentError, dim() <= 2, "t: needs a matrix, got shape {}", to_string(shape()));
  return dim() < 2 ? *this : weft::transpose(*this, 0, 1);
}

}  // namespace weft::inline v0
