// Derivatives of the reductions.
#include <limits>

#include <weft/autograd/node.hpp>
#include <weft/core/ops.hpp>
#include <weft/core/row_attrs.hpp>

namespace weft::inline v0::vjp {

namespace {

/// A result with the reduced dims back as size 1, so that it broadcasts against the input.
Tensor with_dims(const VjpContext& c, const Tensor& result, const ReduceAttrs& attrs) {
  Shape shape = c.input_shape(0);
  for (int i = 0; i < shape.rank(); ++i)
    if (attrs.reduces(i)) shape[i] = 1;
  return attrs.keepdim ? result : reshape(result, shape);
}

DimList dims_of(const ReduceAttrs& attrs, int rank) {
  DimList dims;
  for (int i = 0; i < rank; ++i)
    if (attrs.reduces(i)) dims.push_back(i);
  return dims;
}

int64_t reduced_count(const VjpContext& c, const ReduceAttrs& attrs) {
  int64_t count = 1;
  for (int i = 0; i < c.input_shape(0).rank(); ++i)
    if (attrs.reduces(i)) count *= c.input_shape(0)[i];
  return count;
}

/// The gradient goes to the chosen elements, in equal parts where several are equal.
void choose(VjpContext& c) {
  const auto attrs = c.attrs<ReduceAttrs>();
  const Tensor x = c.input(0).detach(), y = with_dims(c, c.output().detach(), attrs);
  const Tensor chosen = eq(x, y).to(x.dtype());
  const DimList dims = dims_of(attrs, x.dim());
  const Tensor count = dims.empty() ? chosen : sum(chosen, {.dim = dims, .keepdim = true});
  c.set(0, with_dims(c, c.grad(), attrs) * (chosen / count));
}

}  // namespace

void sum(VjpContext& c) {
  const auto attrs = c.attrs<ReduceAttrs>();
  c.set(0, weft::expand(with_dims(c, c.grad(), attrs), c.input_shape(0)));
}

void mean(VjpContext& c) {
  const auto attrs = c.attrs<ReduceAttrs>();
  const double scale = 1.0 / static_cast<double>(reduced_count(c, attrs));
  c.set(0, weft::expand(with_dims(c, c.grad() * scale, attrs), c.input_shape(0)));
}

void amax(VjpContext& c) { choose(c); }
void amin(VjpContext& c) { choose(c); }

void prod(VjpContext& c) {
  // The product of all others: with no zero that is product / x; with one, it is at the zero alone,
  // the product of the rest; with more, nowhere.
  const auto attrs = c.attrs<ReduceAttrs>();
  const Tensor x = c.input(0), zero = eq(x, 0);
  const DimList dims = dims_of(attrs, x.dim());
  if (dims.empty()) return c.set(0, c.grad());
  const Tensor nonzero = weft::where(zero, 1, x);
  const Tensor rest = weft::prod(nonzero, {.dim = dims, .keepdim = true});
  const Tensor zeros = weft::sum(zero, {.dim = dims, .keepdim = true});
  const Tensor at_zero = weft::where(eq(zeros, 1), rest, 0),
               elsewhere = weft::where(eq(zeros, 0), rest, 0);
  c.set(0, with_dims(c, c.grad(), attrs) * weft::where(zero, at_zero, elsewhere / nonzero));
}

void norm(VjpContext& c) {
  const auto attrs = c.attrs<ReduceAttrs>();
  const double p = attrs.value;
  const Tensor x = c.input(0), g = with_dims(c, c.grad(), attrs);
  if (p == 0) return c.set(0, weft::zeros_like(x));
  if (p == 1) return c.set(0, g * weft::sign(x));
  const Tensor y = with_dims(c, c.output(), attrs);
  if (p == std::numeric_limits<double>::infinity() ||
      p == -std::numeric_limits<double>::infinity()) {
    const Tensor chosen = eq(weft::abs(x), y).to(x.dtype());
    const DimList dims = dims_of(attrs, x.dim());
    const Tensor count = dims.empty() ? chosen : weft::sum(chosen, {.dim = dims, .keepdim = true});
    return c.set(0, g * weft::sign(x) * (chosen / count));
  }
  const Tensor zero = eq(y, 0);
  const Tensor safe = weft::where(zero, 1, y);
  if (p == 2) return c.set(0, weft::where(zero, 0, g / safe) * x);
  const Tensor powers = weft::where(eq(x, 0), 0, weft::pow(weft::abs(x), p - 1));
  c.set(0, weft::where(zero, 0, g / weft::pow(safe, p - 1)) * (weft::sign(x) * powers));
}

namespace {

/// The gradient of chosen elements goes to where they were.
void at_places(VjpContext& c) {
  const auto attrs = c.attrs<DimAttrs>();
  Tensor grad = c.grad(), places = c.output(1);
  const Shape& shape = c.input_shape(0);
  if (grad.dim() < shape.rank()) {
    grad = weft::unsqueeze(grad, attrs.dim);
    places = weft::unsqueeze(places, attrs.dim);
  }
  const Tensor zeros = weft::zeros(shape, {.dtype = grad.dtype(), .device = c.device()});
  c.set(0, weft::scatter(zeros, attrs.dim, places, grad));
}

/// Running sums from the other end.
Tensor reverse_cumsum(const Tensor& x, int dim) {
  if (x.dim() == 0) return x;
  return weft::flip(weft::cumsum(weft::flip(x, {dim}), dim), {dim});
}

}  // namespace

void max_dim(VjpContext& c) { at_places(c); }
void min_dim(VjpContext& c) { at_places(c); }
void sort(VjpContext& c) { at_places(c); }

void cumsum(VjpContext& c) { c.set(0, reverse_cumsum(c.grad(), c.attrs<DimAttrs>().dim)); }

void cumprod(VjpContext& c) {
  // d(out[j]) / d(x[i]) is the product of x[0 … j] without x[i]. Up to the first zero of a line
  // that is out[j] / x[i]; the zero itself gets the sum of the products that go on behind it, with
  // 1 in its place and stopped by the next zero; nothing behind the first zero counts.
  const int dim = c.attrs<DimAttrs>().dim;
  const Tensor x = c.input(0), grad = c.grad();
  const Tensor zero = eq(x, 0), zeros = weft::cumsum(zero, dim);
  const Tensor first = weft::logical_and(zero, eq(zeros, 1));
  const Tensor clean = weft::where(first, 1, x);
  const Tensor before = weft::where(eq(zeros, 0), grad * weft::cumprod(clean, dim), 0);
  const Tensor behind = weft::where(eq(zeros, 0), 0, grad * weft::cumprod(clean, dim));
  const Tensor safe = weft::where(zero, 1, x);
  const Tensor plain = weft::where(eq(zeros, 0), reverse_cumsum(before, dim) / safe, 0);
  c.set(0, plain + weft::where(first, reverse_cumsum(behind, dim), 0));
}

}  // namespace weft::inline v0::vjp
