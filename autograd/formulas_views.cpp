// Derivatives of the views.
#include <weft/autograd/node.hpp>
#include <weft/core/ops.hpp>
#include <weft/core/ops_internal.hpp>
#include <weft/core/view_attrs.hpp>

namespace weft::inline v0::vjp {

void as_shape(VjpContext& c) { c.set(0, reshape(c.grad(), c.input_shape(0))); }

void permute(VjpContext& c) {
  const auto attrs = c.attrs<PermuteAttrs>();
  Dims inverse = c.input_shape(0);
  for (int i = 0; i < inverse.rank(); ++i) inverse[attrs.source[i]] = i;
  c.set(0, weft::permute(c.grad(), inverse));
}

void expand(VjpContext& c) { c.set(0, c.grad()); }

void slice(VjpContext& c) {
  const auto attrs = c.attrs<SliceAttrs>();
  c.set(0,
        detail::zero_scatter_slice(c.grad(), c.input_shape(0), attrs.dim, attrs.start, attrs.step));
}

void select(VjpContext& c) {
  const auto attrs = c.attrs<SliceAttrs>();
  const Tensor row = weft::unsqueeze(c.grad(), attrs.dim);
  c.set(0, detail::zero_scatter_slice(row, c.input_shape(0), attrs.dim, attrs.start, 1));
}

void split(VjpContext& c) {
  std::vector<Tensor> gradients;
  for (int i = 0; i < c.output_count(); ++i) gradients.push_back(c.grad(i));
  c.set(0, cat(gradients, c.attrs<SplitAttrs>().dim));
}

void unsqueeze(VjpContext& c) { c.set(0, reshape(c.grad(), c.input_shape(0))); }

void squeeze(VjpContext& c) { c.set(0, reshape(c.grad(), c.input_shape(0))); }

void diagonal(VjpContext& c) {
  // With the last two dims flattened, a diagonal is a slice that steps over one row and one column.
  const auto offset = c.attrs<int64_t>();
  const Shape& shape = c.input_shape(0);
  const int rank = shape.rank();
  const int64_t columns = shape[rank - 1];
  Shape flat = shape;
  flat.erase(rank - 1);
  flat[rank - 2] = shape[rank - 2] * columns;
  const int64_t start = offset >= 0 ? offset : -offset * columns;
  c.set(0,
        reshape(detail::zero_scatter_slice(c.grad(), flat, rank - 2, start, columns + 1), shape));
}

}  // namespace weft::inline v0::vjp
