// Derivatives of joining and indexing.
#include <vector>

#include <weft/autograd/node.hpp>
#include <weft/core/ops.hpp>
#include <weft/core/ops_internal.hpp>
#include <weft/core/row_attrs.hpp>
#include <weft/core/view_attrs.hpp>

namespace weft::inline v0::vjp {

void cat(VjpContext& c) {
  const int dim = c.attrs<DimAttrs>().dim;
  const Tensor grad = c.grad();
  int64_t start = 0;
  for (int i = 0; i < c.input_count(); ++i) {
    const int64_t size = c.input_shape(i)[dim];
    if (c.needs(i)) c.set(i, weft::narrow(grad, dim, start, size));
    start += size;
  }
}

void zero_scatter_slice(VjpContext& c) {
  const auto attrs = c.attrs<ZeroScatterAttrs>();
  const int64_t size = c.input_shape(0)[attrs.dim];
  const int64_t end = size == 0 ? attrs.start : attrs.start + (size - 1) * attrs.step + 1;
  c.set(0, weft::slice(c.grad(), attrs.dim, attrs.start, end, attrs.step));
}

namespace {

Tensor zeros_of(const VjpContext& c, int input) {
  return weft::zeros(c.input_shape(input), {.dtype = c.input_dtype(input), .device = c.device()});
}

}  // namespace

void index_select(VjpContext& c) {
  const int dim = c.attrs<DimAttrs>().dim;
  c.set(0, weft::index_add(zeros_of(c, 0), dim, c.input(1), c.grad()));
}

void gather(VjpContext& c) {
  const int dim = c.attrs<DimAttrs>().dim;
  c.set(0, weft::scatter_add(zeros_of(c, 0), dim, c.input(1), c.grad()));
}

namespace {

/// Gradient of the source of scatter and scatter_add: what its elements were written to. A source
/// larger than the indices has a part that was not used.
Tensor source_gradient(const VjpContext& c, int dim) {
  const Tensor part = weft::gather(c.grad(), dim, c.input(1));
  const Shape& shape = c.input_shape(2);
  std::vector<int64_t> padding;
  bool smaller = false;
  for (int i = shape.rank() - 1; i >= 0; --i) {
    padding.push_back(0);
    padding.push_back(shape[i] - part.shape()[i]);
    smaller |= padding.back() > 0;
  }
  return smaller ? weft::pad(part, padding) : part;
}

}  // namespace

void scatter(VjpContext& c) {
  const int dim = c.attrs<DimAttrs>().dim;
  if (c.needs(0)) {
    const Tensor index = c.input(1);
    const Tensor zero =
        weft::zeros(index.shape(), {.dtype = c.input_dtype(0), .device = c.device()});
    c.set(0, weft::scatter(c.grad(), dim, index, zero));
  }
  if (c.needs(2)) c.set(2, source_gradient(c, dim));
}

void scatter_add(VjpContext& c) {
  const int dim = c.attrs<DimAttrs>().dim;
  if (c.needs(0)) c.set(0, c.grad());
  if (c.needs(2)) c.set(2, source_gradient(c, dim));
}

void index_add(VjpContext& c) {
  const int dim = c.attrs<DimAttrs>().dim;
  if (c.needs(0)) c.set(0, c.grad());
  if (c.needs(2)) c.set(2, weft::index_select(c.grad(), dim, c.input(1)));
}

void embedding(VjpContext& c) {
  const auto attrs = c.attrs<EmbeddingAttrs>();
  c.set(0, detail::embedding_backward(c.grad(), c.input(1), attrs.rows, attrs.padding_idx));
}

void embedding_backward(VjpContext& c) {
  const auto attrs = c.attrs<EmbeddingAttrs>();
  const Tensor index = c.input(1);
  const Tensor rows = weft::embedding(index, c.grad());
  if (attrs.padding_idx < 0) return c.set(0, rows);
  c.set(0, rows * weft::unsqueeze(ne(index, attrs.padding_idx), -1).to(rows.dtype()));
}

void tril(VjpContext& c) { c.set(0, weft::tril(c.grad(), c.attrs<DimAttrs>().extra)); }
void triu(VjpContext& c) { c.set(0, weft::triu(c.grad(), c.attrs<DimAttrs>().extra)); }

void flip(VjpContext& c) {
  const auto flipped = c.attrs<uint32_t>();
  Dims dims;
  for (int i = 0; i < c.input_shape(0).rank(); ++i)
    if (flipped >> i & 1u) dims.push_back(i);
  c.set(0, weft::flip(c.grad(), dims));
}

void pad(VjpContext& c) {
  PadAttrs attrs = c.attrs<PadAttrs>();
  if (attrs.mode != PadMode::constant) return c.set(0, detail::pad_backward(c.grad(), attrs));
  for (int i = 0; i < kMaxRank; ++i) {
    attrs.before[i] = -attrs.before[i];
    attrs.after[i] = -attrs.after[i];
  }
  attrs.value = 0;
  c.set(0, detail::pad_with(c.grad(), attrs));
}

void pad_backward(VjpContext& c) { c.set(0, detail::pad_with(c.grad(), c.attrs<PadAttrs>())); }

}  // namespace weft::inline v0::vjp
