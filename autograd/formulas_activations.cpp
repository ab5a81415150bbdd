// Derivatives of the activations. The first derivative of a common activation is an op of its own,
// one pass over memory; what follows it here is the second.
#include <weft/autograd/node.hpp>
#include <weft/core/kernel/activations.hpp>
#include <weft/core/ops.hpp>
#include <weft/core/pointwise_attrs.hpp>
#include <weft/core/pointwise_ops.hpp>

namespace weft::inline v0::vjp {

namespace {

using detail::run_op;

/// First derivative: the op `backward` of the gradient and what was saved.
void by_input(VjpContext& c, OpId backward) {
  c.set(0, run_op(backward, c.grad(), c.input(0), c.raw_attrs()));
}
void by_output(VjpContext& c, OpId backward) {
  c.set(0, run_op(backward, c.grad(), c.output(), c.raw_attrs()));
}

/// Second derivative where the first is a step function: `backward` itself, of the new gradient.
void step(VjpContext& c, OpId backward) {
  if (c.needs(0)) c.set(0, run_op(backward, c.grad(), c.input(1), c.raw_attrs()));
}

/// Second derivative: that of backward(g, x) = g f'(x) for x is g f''(x).
void curved(VjpContext& c, OpId backward, Tensor (*second)(const Tensor& x)) {
  step(c, backward);
  if (c.needs(1)) c.set(1, c.grad() * c.input(0) * second(c.input(1)));
}

Tensor silu_second(const Tensor& x) {
  const Tensor s = sigmoid(x);
  return s * (1 - s) * (x * (1 - s * 2) + 2);
}

Tensor gelu_second(const Tensor& x) {
  constexpr double kDensity = 0.39894228040143267794;  // 1 / sqrt(2 pi)
  const Tensor z = square(x);
  return exp(z * -0.5) * kDensity * (2 - z);
}

Tensor gelu_tanh_second(const Tensor& x) {
  using kernel::kGeluCubic;
  using kernel::kGeluScale;
  const Tensor z = square(x);
  const Tensor t = tanh(x * (z * (kGeluScale * kGeluCubic) + kGeluScale));
  const Tensor slope = z * (3 * kGeluScale * kGeluCubic) + kGeluScale;
  const Tensor bend = x * (6 * kGeluScale * kGeluCubic);
  return (1 - square(t)) * (slope + x * 0.5 * (bend - t * square(slope) * 2));
}

Tensor mish_second(const Tensor& x) {
  const Tensor s = sigmoid(x), t = tanh(softplus(x)), rest = 1 - square(t);
  return rest * s * (x * ((1 - s) - t * s * 2) + 2);
}

}  // namespace

void relu(VjpContext& c) { by_output(c, OpId::relu_backward); }
void sigmoid(VjpContext& c) { by_output(c, OpId::sigmoid_backward); }
void tanh(VjpContext& c) { by_output(c, OpId::tanh_backward); }
void silu(VjpContext& c) { by_input(c, OpId::silu_backward); }
void gelu(VjpContext& c) { by_input(c, OpId::gelu_backward); }
void gelu_tanh(VjpContext& c) { by_input(c, OpId::gelu_tanh_backward); }
void mish(VjpContext& c) { by_input(c, OpId::mish_backward); }
void hardswish(VjpContext& c) { by_input(c, OpId::hardswish_backward); }
void hardsigmoid(VjpContext& c) { by_input(c, OpId::hardsigmoid_backward); }
void softplus(VjpContext& c) { by_input(c, OpId::softplus_backward); }
void elu(VjpContext& c) { by_input(c, OpId::elu_backward); }
void leaky_relu(VjpContext& c) { by_input(c, OpId::leaky_relu_backward); }
void clamp(VjpContext& c) { by_input(c, OpId::clamp_backward); }
void hardtanh(VjpContext& c) { by_input(c, OpId::hardtanh_backward); }

void softsign(VjpContext& c) { c.set(0, c.grad() / square(abs(c.input(0)) + 1)); }
void logsigmoid(VjpContext& c) { c.set(0, c.grad() * sigmoid(neg(c.input(0)))); }

// The same elements are dropped: the mask follows from the attributes.
void dropout(VjpContext& c) { c.set(0, run_op(OpId::dropout, c.grad(), c.raw_attrs())); }

void relu_backward(VjpContext& c) { step(c, OpId::relu_backward); }
void hardsigmoid_backward(VjpContext& c) { step(c, OpId::hardsigmoid_backward); }
void leaky_relu_backward(VjpContext& c) { step(c, OpId::leaky_relu_backward); }
void clamp_backward(VjpContext& c) { step(c, OpId::clamp_backward); }
void hardtanh_backward(VjpContext& c) { step(c, OpId::hardtanh_backward); }

void silu_backward(VjpContext& c) { curved(c, OpId::silu_backward, silu_second); }
void gelu_backward(VjpContext& c) { curved(c, OpId::gelu_backward, gelu_second); }
void gelu_tanh_backward(VjpContext& c) { curved(c, OpId::gelu_tanh_backward, gelu_tanh_second); }
void mish_backward(VjpContext& c) { curved(c, OpId::mish_backward, mish_second); }

void sigmoid_backward(VjpContext& c) {
  step(c, OpId::sigmoid_backward);
  if (c.needs(1)) c.set(1, c.grad() * c.input(0) * (1 - c.input(1) * 2));
}

void tanh_backward(VjpContext& c) {
  step(c, OpId::tanh_backward);
  if (c.needs(1)) c.set(1, c.grad() * c.input(0) * c.input(1) * -2);
}

void hardswish_backward(VjpContext& c) {
  step(c, OpId::hardswish_backward);
  if (!c.needs(1)) return;
  const Tensor x = c.input(1);
  const Tensor slope = c.grad() * c.input(0) * (1.0 / 3);
  c.set(1, masked_fill(slope, logical_or(le(x, -3), ge(x, 3)), 0));
}

void elu_backward(VjpContext& c) {
  step(c, OpId::elu_backward);
  if (!c.needs(1)) return;
  const auto attrs = c.attrs<EluAttrs>();
  const Tensor x = c.input(1);
  const Tensor slope = c.grad() * c.input(0) * exp(minimum(x, 0)) * (attrs.alpha * attrs.scale);
  c.set(1, masked_fill(slope, gt(x, 0), 0));
}

void softplus_backward(VjpContext& c) {
  step(c, OpId::softplus_backward);
  if (!c.needs(1)) return;
  const auto attrs = c.attrs<SoftplusAttrs>();
  const Tensor u = c.input(1) * attrs.beta, s = sigmoid(u);
  const Tensor slope = c.grad() * c.input(0) * (s * (1 - s)) * attrs.beta;
  c.set(1, masked_fill(slope, gt(u, attrs.threshold), 0));
}

}  // namespace weft::inline v0::vjp
