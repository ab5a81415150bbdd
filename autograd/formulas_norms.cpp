// Derivatives of the norms. Each has a fused backward op; where the pass is itself recorded
// (create_graph), the same formula is written in small ops, which have derivatives of their own.
#include <weft/autograd/autograd.hpp>
#include <weft/autograd/node.hpp>
#include <weft/core/ops.hpp>
#include <weft/core/row_attrs.hpp>

namespace weft::inline v0::vjp {

namespace {

/// x as [rows, width].
Tensor as_rows(const Tensor& x, int64_t width) {
  return reshape(x, {width == 0 ? 0 : x.numel() / width, width});
}

/// dx of rows from the gradient of the normalised rows.
Tensor rows_gradient(const Tensor& grad, const Tensor& xhat, const Tensor& rstd, bool centred) {
  const ReduceOptions row{.dim = 1, .keepdim = true};
  const Tensor rest = grad - xhat * weft::mean(grad * xhat, row);
  return rstd * (centred ? rest - weft::mean(grad, row) : rest);
}

void set_affine(VjpContext& c, int first, const NormAttrs& attrs, const Tensor* outputs) {
  if (attrs.has_weight && c.needs(first)) c.set(first, reshape(outputs[0], c.input_shape(first)));
  if (attrs.has_bias && c.needs(first + 1))
    c.set(first + 1, reshape(outputs[1], c.input_shape(first + 1)));
}

void recorded_norm(VjpContext& c, const NormAttrs& attrs, bool centred) {
  const ReduceOptions row{.dim = 1, .keepdim = true};
  const Tensor x = as_rows(c.input(0), attrs.width), grad = as_rows(c.grad(), attrs.width);
  const Tensor middle = centred ? x - weft::mean(x, row) : x;
  const Tensor rstd = rsqrt(weft::mean(square(middle), row) + attrs.eps), xhat = middle * rstd;
  const Tensor scaled = attrs.has_weight ? grad * reshape(c.input(1), {1, attrs.width}) : grad;
  if (c.needs(0)) c.set(0, reshape(rows_gradient(scaled, xhat, rstd, centred), c.input_shape(0)));
  const ReduceOptions columns{.dim = 0};
  if (attrs.has_weight && c.needs(1))
    c.set(1, reshape(weft::sum(grad * xhat, columns), c.input_shape(1)));
  if (attrs.has_bias && c.needs(2)) c.set(2, reshape(weft::sum(grad, columns), c.input_shape(2)));
}

}  // namespace

void layer_norm(VjpContext& c) {
  const auto attrs = c.attrs<NormAttrs>();
  if (is_grad_enabled()) return recorded_norm(c, attrs, true);
  const Tensor grad = c.grad(), x = c.input(0), mean = c.output(1), rstd = c.output(2);
  const Tensor weight = attrs.has_weight ? c.input(1) : Tensor();
  const TensorRef refs[] = {grad.checked(), x.checked(), weight.impl(), mean.checked(),
                            rstd.checked()};
  Tensor outputs[3];
  dispatch_multi(OpId::layer_norm_backward, Attrs(attrs), refs, outputs);
  c.set(0, outputs[0]);
  set_affine(c, 1, attrs, outputs + 1);
}

void rms_norm(VjpContext& c) {
  const auto attrs = c.attrs<NormAttrs>();
  if (is_grad_enabled()) return recorded_norm(c, attrs, false);
  const Tensor grad = c.grad(), x = c.input(0), rstd = c.output(1);
  const Tensor weight = attrs.has_weight ? c.input(1) : Tensor();
  const TensorRef refs[] = {grad.checked(), x.checked(), weight.impl(), rstd.checked()};
  Tensor outputs[2];
  dispatch_multi(OpId::rms_norm_backward, Attrs(attrs), refs, outputs);
  c.set(0, outputs[0]);
  set_affine(c, 1, attrs, outputs + 1);
}

void group_norm(VjpContext& c) {
  const auto attrs = c.attrs<NormAttrs>();
  const Tensor grad = c.grad(), x = c.input(0);
  const Tensor weight = attrs.has_weight ? c.input(1) : Tensor();
  if (!is_grad_enabled()) {
    const Tensor mean = c.output(1), rstd = c.output(2);
    const TensorRef refs[] = {grad.checked(), x.checked(), weight.impl(), mean.checked(),
                              rstd.checked()};
    Tensor outputs[3];
    dispatch_multi(OpId::group_norm_backward, Attrs(attrs), refs, outputs);
    c.set(0, outputs[0]);
    return set_affine(c, 1, attrs, outputs + 1);
  }
  const int64_t samples = x.shape()[0], channels = x.shape()[1];
  if (x.numel() == 0) return c.set(0, zeros_like(x));
  const int64_t inner = x.numel() / (samples * channels);
  const int64_t width = channels / attrs.groups * inner;
  const ReduceOptions row{.dim = 1, .keepdim = true}, per_channel{.dim = {0, 2}};
  const Tensor rows = as_rows(x, width), middle = rows - weft::mean(rows, row);
  const Tensor rstd = rsqrt(weft::mean(square(middle), row) + attrs.eps), xhat = middle * rstd;
  const Shape by_channel{samples, channels, inner};
  const Tensor g = reshape(grad, by_channel);
  const Tensor scaled = attrs.has_weight ? g * reshape(weight, {1, channels, 1}) : g;
  c.set(0, reshape(rows_gradient(as_rows(scaled, width), xhat, rstd, true), x.shape()));
  if (attrs.has_weight && c.needs(1))
    c.set(1, reshape(weft::sum(g * reshape(xhat, by_channel), per_channel), c.input_shape(1)));
  if (attrs.has_bias && c.needs(2)) c.set(2, reshape(weft::sum(g, per_channel), c.input_shape(2)));
}

}  // namespace weft::inline v0::vjp
