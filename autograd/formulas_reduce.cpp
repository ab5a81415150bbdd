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

}  // namespace weft::inline v0::vjp
