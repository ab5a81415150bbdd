// Derivatives of the copying and arithmetic ops and of the functions of one variable.
#include <cmath>
#include <numbers>

#include <weft/autograd/node.hpp>
#include <weft/core/ops.hpp>

namespace weft::inline v0::vjp {

namespace {

Tensor zero(const VjpContext& c, int i) {
  return zeros(c.input_shape(i), {.dtype = c.input_dtype(i), .device = c.device()});
}

/// For ops whose result is the same all around almost every point.
void flat(VjpContext& c) { c.set(0, zero(c, 0)); }

}  // namespace

void cast(VjpContext& c) { c.set(0, c.grad()); }

// ---- one input

void neg(VjpContext& c) { c.set(0, neg(c.grad())); }
void abs(VjpContext& c) { c.set(0, c.grad() * sign(c.input(0))); }
void sign(VjpContext& c) { flat(c); }
void floor(VjpContext& c) { flat(c); }
void ceil(VjpContext& c) { flat(c); }
void round(VjpContext& c) { flat(c); }
void trunc(VjpContext& c) { flat(c); }

void exp(VjpContext& c) { c.set(0, c.grad() * c.output()); }
void expm1(VjpContext& c) { c.set(0, c.grad() * (c.output() + 1)); }
void log(VjpContext& c) { c.set(0, c.grad() / c.input(0)); }
void log2(VjpContext& c) { c.set(0, c.grad() / (c.input(0) * std::numbers::ln2)); }
void log10(VjpContext& c) { c.set(0, c.grad() / (c.input(0) * std::numbers::ln10)); }
void log1p(VjpContext& c) { c.set(0, c.grad() / (c.input(0) + 1)); }
void sqrt(VjpContext& c) { c.set(0, c.grad() / (c.output() * 2)); }
void rsqrt(VjpContext& c) {
  const Tensor y = c.output();
  c.set(0, c.grad() * -0.5 * (y * y * y));
}
void reciprocal(VjpContext& c) {
  const Tensor y = c.output();
  c.set(0, neg(c.grad()) * (y * y));
}
void sin(VjpContext& c) { c.set(0, c.grad() * cos(c.input(0))); }
void cos(VjpContext& c) { c.set(0, neg(c.grad()) * sin(c.input(0))); }
void tan(VjpContext& c) { c.set(0, c.grad() * (square(c.output()) + 1)); }
void asin(VjpContext& c) { c.set(0, c.grad() * rsqrt(1 - square(c.input(0)))); }
void acos(VjpContext& c) { c.set(0, neg(c.grad()) * rsqrt(1 - square(c.input(0)))); }
void atan(VjpContext& c) { c.set(0, c.grad() / (square(c.input(0)) + 1)); }
void sinh(VjpContext& c) { c.set(0, c.grad() * cosh(c.input(0))); }
void cosh(VjpContext& c) { c.set(0, c.grad() * sinh(c.input(0))); }
void erf(VjpContext& c) {
  c.set(0, c.grad() * (2 * std::numbers::inv_sqrtpi) * exp(neg(square(c.input(0)))));
}

// ---- two and three inputs

void add(VjpContext& c) {
  if (c.needs(0)) c.set(0, c.grad());
  if (c.needs(1)) c.set(1, c.grad());
}

void sub(VjpContext& c) {
  if (c.needs(0)) c.set(0, c.grad());
  if (c.needs(1)) c.set(1, neg(c.grad()));
}

void mul(VjpContext& c) {
  if (c.needs(0)) c.set(0, c.grad() * c.input(1));
  if (c.needs(1)) c.set(1, c.grad() * c.input(0));
}

void div(VjpContext& c) {
  const Tensor slope = c.grad() / c.input(1);
  if (c.needs(0)) c.set(0, slope);
  if (c.needs(1)) c.set(1, neg(slope) * (c.input(0) / c.input(1)));
}

// d/da a^b is 0 where b is, and d/db a^b is 0 where a is (for b >= 0): there the logarithm and the
// division would give NaN.
void pow(VjpContext& c) {
  const Tensor a = c.input(0), b = c.input(1);
  if (c.needs(0)) {
    const Tensor slope = c.grad() * (b * pow(a, b - 1));
    c.set(0, where(eq(b, 0), zeros_like(slope), slope));
  }
  if (c.needs(1)) {
    const Tensor slope = c.grad() * (c.output() * log(a));
    c.set(1, where(logical_and(eq(a, 0), ge(b, 0)), zeros_like(slope), slope));
  }
}

namespace {

/// The gradient goes to the chosen input; equal ones share it.
void extreme(VjpContext& c, Tensor (*beats)(const Tensor&, const Tensor&)) {
  const Tensor a = c.input(0), b = c.input(1), grad = c.grad();
  const Tensor shared = where(eq(a, b), grad * 0.5, grad);
  if (c.needs(0)) c.set(0, masked_fill(shared, beats(b, a), 0));
  if (c.needs(1)) c.set(1, masked_fill(shared, beats(a, b), 0));
}

}  // namespace

void maximum(VjpContext& c) { extreme(c, gt); }
void minimum(VjpContext& c) { extreme(c, lt); }

void atan2(VjpContext& c) {
  const Tensor a = c.input(0), b = c.input(1);
  const Tensor slope = c.grad() / (a * a + b * b);
  if (c.needs(0)) c.set(0, slope * b);
  if (c.needs(1)) c.set(1, neg(slope) * a);
}

void fmod(VjpContext& c) {
  if (c.needs(0)) c.set(0, c.grad());
  if (c.needs(1)) c.set(1, neg(c.grad()) * trunc(c.input(0) / c.input(1)));
}

void remainder(VjpContext& c) {
  if (c.needs(0)) c.set(0, c.grad());
  if (c.needs(1)) c.set(1, neg(c.grad()) * floor(c.input(0) / c.input(1)));
}

void where(VjpContext& c) {
  if (c.needs(1)) c.set(1, where(c.input(0), c.grad(), 0));
  if (c.needs(2)) c.set(2, where(c.input(0), 0, c.grad()));
}

void lerp(VjpContext& c) {
  const auto weight = c.attrs<double>();
  if (c.needs(0)) c.set(0, c.grad() * (1 - weight));
  if (c.needs(1)) c.set(1, c.grad() * weight);
}

void addcmul(VjpContext& c) {
  const auto value = c.attrs<double>();
  if (c.needs(0)) c.set(0, c.grad());
  if (c.needs(1)) c.set(1, c.grad() * c.input(2) * value);
  if (c.needs(2)) c.set(2, c.grad() * c.input(1) * value);
}

void addcdiv(VjpContext& c) {
  const auto value = c.attrs<double>();
  if (c.needs(0)) c.set(0, c.grad());
  if (!c.needs(1) && !c.needs(2)) return;
  const Tensor slope = c.grad() * value / c.input(2);
  if (c.needs(1)) c.set(1, slope);
  if (c.needs(2)) c.set(2, neg(slope) * (c.input(1) / c.input(2)));
}

}  // namespace weft::inline v0::vjp
