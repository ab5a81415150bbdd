// Derivatives of the filling, copying and pointwise ops.
#include <weft/autograd/node.hpp>
#include <weft/core/ops.hpp>
#include <weft/core/pointwise_attrs.hpp>
#include <weft/core/pointwise_ops.hpp>

namespace weft::inline v0::vjp {

void cast(VjpContext& c) { c.set(0, c.grad()); }

void add(VjpContext& c) {
  if (c.needs(0)) c.set(0, c.grad());
  if (c.needs(1)) c.set(1, c.grad());
}

void mul(VjpContext& c) {
  if (c.needs(0)) c.set(0, c.grad() * c.input(1));
  if (c.needs(1)) c.set(1, c.grad() * c.input(0));
}

}  // namespace weft::inline v0::vjp
