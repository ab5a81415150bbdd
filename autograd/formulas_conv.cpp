// Derivatives of convolution and pooling. A convolution is linear in the input and in the weight,
// so that the derivatives of its backward ops are the same three ops again.
#include <weft/autograd/node.hpp>
#include <weft/core/conv_attrs.hpp>
#include <weft/core/ops.hpp>

namespace weft::inline v0::vjp {

namespace {

Conv2dAttrs sized(Conv2dAttrs attrs, const Shape& shape) {
  attrs.size[0] = shape[2];
  attrs.size[1] = shape[3];
  return attrs;
}

Pool2dAttrs sized(Pool2dAttrs attrs, const Shape& shape) {
  attrs.size[0] = shape[shape.rank() - 2];
  attrs.size[1] = shape[shape.rank() - 1];
  return attrs;
}

}  // namespace

void conv2d(VjpContext& c) {
  const auto attrs = c.attrs<Conv2dAttrs>();
  const Tensor g = c.grad();
  if (c.needs(0))
    c.set(0, detail::conv2d_backward_input(g, c.input(1), sized(attrs, c.input_shape(0))));
  if (c.needs(1))
    c.set(1, detail::conv2d_backward_weight(g, c.input(0), sized(attrs, c.input_shape(1))));
  if (c.has_input(2) && c.needs(2)) c.set(2, sum(g, {.dim = {0, 2, 3}}));
}

void conv2d_backward_input(VjpContext& c) {
  const auto attrs = c.attrs<Conv2dAttrs>();
  const Tensor u = c.grad();
  if (c.needs(0)) c.set(0, detail::conv2d_with(u, c.input(1), {}, attrs));
  if (c.needs(1))
    c.set(1, detail::conv2d_backward_weight(c.input(0), u, sized(attrs, c.input_shape(1))));
}

void conv2d_backward_weight(VjpContext& c) {
  const auto attrs = c.attrs<Conv2dAttrs>();
  const Tensor u = c.grad();
  if (c.needs(0)) c.set(0, detail::conv2d_with(c.input(1), u, {}, attrs));
  if (c.needs(1))
    c.set(1, detail::conv2d_backward_input(c.input(0), u, sized(attrs, c.input_shape(1))));
}

void max_pool2d(VjpContext& c) {
  c.set(0, detail::max_pool2d_backward(c.grad(), c.output(1),
                                       sized(c.attrs<Pool2dAttrs>(), c.input_shape(0))));
}

void max_pool2d_backward(VjpContext& c) {
  c.set(0, detail::max_pool2d_gather(c.grad(), c.input(1)));
}

void max_pool2d_gather(VjpContext& c) {
  c.set(0,
        detail::max_pool2d_backward(c.grad(), c.input(1), sized(Pool2dAttrs(), c.input_shape(0))));
}

void avg_pool2d(VjpContext& c) {
  c.set(0, detail::avg_pool2d_backward(c.grad(), sized(c.attrs<Pool2dAttrs>(), c.input_shape(0))));
}

void avg_pool2d_backward(VjpContext& c) {
  c.set(0, detail::avg_pool2d_with(c.grad(), c.attrs<Pool2dAttrs>()));
}

}  // namespace weft::inline v0::vjp
