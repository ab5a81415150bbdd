// Derivatives of matrix products.
#include <weft/autograd/node.hpp>
#include <weft/core/ops.hpp>

namespace weft::inline v0::vjp {

namespace {

/// [.., n] as a matrix, so that a sum over all its rows is one product.
Tensor rows(const Tensor& x) {
  if (x.dim() == 2) return x;
  int64_t count = 1;
  for (int i = 0; i + 1 < x.dim(); ++i) count *= x.size(i);
  return reshape(x, {count, x.size(-1)});
}

Tensor transposed(const Tensor& x) { return transpose(x, -1, -2); }

}  // namespace

// A vector is a matrix with one row (left) or one column (right). `set` sums over what broadcast.
void matmul(VjpContext& c) {
  Tensor a = c.input(0), b = c.input(1), g = c.grad();
  const bool row = a.dim() == 1, column = b.dim() == 1;
  if (row) a = unsqueeze(a, 0);
  if (column) b = unsqueeze(b, 1);
  if (column) g = unsqueeze(g, -1);
  if (row) g = unsqueeze(g, -2);
  if (c.needs(0)) c.set(0, matmul(g, transposed(b)));
  if (!c.needs(1)) return;
  const Tensor db = b.dim() == 2 ? matmul(transposed(rows(a)), rows(g)) : matmul(transposed(a), g);
  c.set(1, column ? squeeze(db, -1) : db);
}

void linear(VjpContext& c) {
  const Tensor g = c.grad();
  if (c.needs(0)) c.set(0, matmul(g, c.input(1)));
  if (c.needs(1)) c.set(1, matmul(transposed(rows(g)), rows(c.input(0))));
  if (c.has_input(2) && c.needs(2)) c.set(2, sum(rows(g), {.dim = 0}));
}

}  // namespace weft::inline v0::vjp
