// Derivative of fused attention.
#include <weft/autograd/node.hpp>
#include <weft/core/attention_attrs.hpp>

namespace weft::inline v0::vjp {

void attention(VjpContext& c) {
  Tensor results[3];
  detail::attention_backward(c.grad(), c.input(0), c.input(1), c.input(2),
                             c.has_input(3) ? c.input(3) : Tensor(), c.output(0), c.output(1),
                             c.attrs<AttentionAttrs>(), results);
  for (int i = 0; i < 3; ++i)
    if (c.needs(i)) c.set(i, results[i]);
}

}  // namespace weft::inline v0::vjp
