// Derivatives of softmax and of the losses that have rows.
#include <weft/autograd/autograd.hpp>
#include <weft/autograd/node.hpp>
#include <weft/core/ops.hpp>
#include <weft/core/ops_internal.hpp>
#include <weft/core/row_attrs.hpp>

namespace weft::inline v0::vjp {

void softmax(VjpContext& c) {
  c.set(0, detail::softmax_backward(c.grad(), c.output(), c.attrs<DimAttrs>().dim));
}

void log_softmax(VjpContext& c) {
  c.set(0, detail::log_softmax_backward(c.grad(), c.output(), c.attrs<DimAttrs>().dim));
}

// dx = y (g - sum(g y))
void softmax_backward(VjpContext& c) {
  const int dim = c.attrs<DimAttrs>().dim;
  const Tensor h = c.grad(), g = c.input(0), y = c.input(1);
  const ReduceOptions along{.dim = dim, .keepdim = true};
  if (c.needs(0)) c.set(0, detail::softmax_backward(h, y, dim));
  if (c.needs(1)) c.set(1, h * (g - weft::sum(g * y, along)) - g * weft::sum(h * y, along));
}

// dx = g - exp(y) sum(g)
void log_softmax_backward(VjpContext& c) {
  const ReduceOptions along{.dim = c.attrs<DimAttrs>().dim, .keepdim = true};
  const Tensor h = c.grad(), g = c.input(0), p = weft::exp(c.input(1));
  if (c.needs(0)) c.set(0, h - weft::sum(h * p, along));
  if (c.needs(1)) c.set(1, -(h * p * weft::sum(g, along)));
}

namespace {

/// The gradient of cross entropy in small ops, for passes that are themselves recorded: by row
/// g [(1 - s) w[t] (p - onehot) + s / classes (sum w * p - w)], see core/cpu/losses.cpp.
void recorded_cross_entropy(VjpContext& c) {
  const auto attrs = c.attrs<CrossEntropyAttrs>();
  const Tensor logits = c.input(0), targets = c.input(1);
  const int64_t rows = logits.shape()[0], classes = logits.shape()[1];
  const Tensor used = reshape(ne(targets, attrs.ignore_index), {rows, 1}).to(logits.dtype());
  const Tensor safe = weft::where(ne(targets, attrs.ignore_index), targets, 0);
  const Tensor hot = weft::one_hot(safe, classes).to(logits.dtype());
  const Tensor weight = c.has_input(2) ? reshape(c.input(2), {1, classes}).detach()
                                       : weft::full_like(weft::slice(hot, 0, 0, 1), 1);
  const ReduceOptions row{.dim = 1, .keepdim = true};
  const Tensor p = weft::softmax(logits, 1), own = weft::sum(hot * weight, row);
  const double smooth = attrs.label_smoothing / static_cast<double>(classes);
  const Tensor all = rows == 0 ? own : weft::sum(weight, row);
  Tensor each = own * (p - hot) * (1.0 - attrs.label_smoothing);
  if (smooth > 0) each = each + (all * p - weight) * smooth;
  Tensor grad = c.grad();
  if (attrs.reduction == Reduction::none) grad = reshape(grad, {rows, 1});
  if (attrs.reduction == Reduction::mean) grad = grad / weft::sum(own * used);
  c.set(0, grad * used * each);
}

}  // namespace

void cross_entropy(VjpContext& c) {
  if (is_grad_enabled()) return recorded_cross_entropy(c);
  const Tensor grad = c.grad(), logits = c.input(0), targets = c.input(1);
  const Tensor weight = c.has_input(2) ? c.input(2) : Tensor();
  const Tensor log_sum = c.output(1), divisor = c.output(2);
  const TensorRef refs[] = {grad.checked(), logits.checked(),  targets.checked(),
                            weight.impl(),  log_sum.checked(), divisor.checked()};
  c.set(0, dispatch(OpId::cross_entropy_backward, c.raw_attrs(), refs));
}

}  // namespace weft::inline v0::vjp
