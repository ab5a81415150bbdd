// Derivatives of joining and indexing.
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

}  // namespace weft::inline v0::vjp
