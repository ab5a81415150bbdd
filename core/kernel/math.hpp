// exp, log, tanh, erf … of float, written with + - * /, comparisons that select, and bits: no
// branch and no call, so that loops over them vectorise. double goes to the C library.
// The coefficients are minimax fits (relative error of the result, iteratively reweighted least
// squares in 60 digits); tests/core/pointwise_accuracy.cpp holds the functions to a few ulp.
#pragma once

#include <bit>
#include <cstdint>

#include <weft/core/kernel/arithmetic.hpp>

namespace weft::inline v0::kernel {

inline constexpr float kInfinity = __builtin_inff();

/// 2^n for n in [-126, 127].
WEFT_HD inline float power_of_two(int32_t n) { return std::bit_cast<float>((n + 127) << 23); }

/// e^x = 2^n (1 + tail): x is n ln 2 + r with |r| <= ln 2 / 2, tail = e^r - 1.
struct ExpParts {
  int32_t n;
  float tail;
};

// Adding 1.5 * 2^23 leaves the nearest whole number in the lowest bits of the sum. ln 2 is taken
// away in two pieces, the first of which has so few digits that its product with n is exact.
WEFT_HD inline ExpParts exp_parts(float x) {
  constexpr float kRound = 12582912.0f;
  const float shifted = x * 1.44269504f + kRound;
  const float n = shifted - kRound;
  float r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  float q = 0.001381313199f;
  q = q * r + 0.00836942005f;
  q = q * r + 0.04166845705f;
  q = q * r + 0.1666651478f;
  q = q * r + 0.4999999305f;
  return {std::bit_cast<int32_t>(shifted) - 0x4b400000, q * (r * r) + r};
}

WEFT_HD inline float exp(float x) {
  // Below -104 the result is 0; computing it would underflow, which is slow on most CPUs.
  const float limited = x < -104.0f ? 0.0f : (x > 89.0f ? 89.0f : x);
  const ExpParts parts = exp_parts(limited);
  // In two factors: 2^n alone may leave the range of float.
  const int32_t half = parts.n >> 1;
  float y = (parts.tail + 1.0f) * power_of_two(half) * power_of_two(parts.n - half);
  y = x < -104.0f ? 0.0f : y;
  y = x > 88.7228394f ? kInfinity : y;
  return x == x ? y : x;
}
WEFT_HD inline double exp(double x) { return __builtin_exp(x); }

/// exp(x) for x <= 0, with results below 2^-126 rounded to 0: what normalised sums are made of.
WEFT_HD inline float exp_negative(float x) {
  const float limited = x > -87.3f ? x : -87.3f;
  const ExpParts parts = exp_parts(limited);
  const float y = (parts.tail + 1.0f) * power_of_two(parts.n);
  const float result = x < -87.3f ? 0.0f : y;
  return x == x ? result : x;
}
WEFT_HD inline double exp_negative(double x) { return __builtin_exp(x); }

WEFT_HD inline float expm1(float x) {
  const float limited = x < -20.0f ? -20.0f : (x > 89.0f ? 89.0f : x);
  const ExpParts parts = exp_parts(limited);
  const int32_t half = parts.n >> 1;
  const float a = power_of_two(half), b = power_of_two(parts.n - half);
  // 2^n (1 + tail) - 1, the 1 taken away before anything is added to it.
  float y = (parts.tail * a + (a - power_of_two(half - parts.n))) * b;
  y = x > 88.7228394f ? kInfinity : y;
  y = x == 0.0f ? x : y;
  return x == x ? y : x;
}
WEFT_HD inline double expm1(double x) { return __builtin_expm1(x); }

/// log(1 + f) for 1 + f in [1 / sqrt 2, sqrt 2]: 2 artanh(s), s = f / (2 + f).
WEFT_HD inline float log_near_one(float f) {
  const float s = f / (2.0f + f), z = s * s;
  float q = 0.2359634783f;
  q = q * z + 0.2853660198f;
  q = q * z + 0.4000034559f;
  q = q * z + 0.666666656f;
  // 2 s = f - s f: written this way, the rounding of s hardly matters.
  return f - s * (f - q * z);
}

/// x = 2^exponent * (1 + f), 1 + f in [1 / sqrt 2, sqrt 2], for positive finite x.
struct LogParts {
  float exponent, f;
};

WEFT_HD inline LogParts log_parts(float x) {
  const bool tiny = x < 1.17549435e-38f;
  const float scaled = tiny ? x * 8388608.0f : x;
  // Adding this moves mantissas from sqrt 2 on into the next exponent.
  const uint32_t shifted = std::bit_cast<uint32_t>(scaled) + (0x3f800000u - 0x3f3504f3u);
  const int32_t e = static_cast<int32_t>(shifted >> 23) - 127 - (tiny ? 23 : 0);
  const float m = std::bit_cast<float>((shifted & 0x007fffffu) + 0x3f3504f3u);
  return {static_cast<float>(e), m - 1.0f};
}

/// What a logarithm of any base gives outside the positive finite numbers.
WEFT_HD inline float log_limits(float x, float y) {
  y = x == kInfinity ? x : y;
  y = x == 0.0f ? -kInfinity : y;
  return x >= 0.0f ? y : __builtin_nanf("");
}

WEFT_HD inline float log(float x) {
  const LogParts parts = log_parts(x);
  const float y =
      parts.exponent * 0.693359375f + (log_near_one(parts.f) - parts.exponent * 2.12194440e-4f);
  return log_limits(x, y);
}
WEFT_HD inline double log(double x) { return __builtin_log(x); }

WEFT_HD inline float log2(float x) {
  const LogParts parts = log_parts(x);
  const float y = log_near_one(parts.f);
  // log2(e) = 1 + 0.442695…: the 1 costs no rounding.
  return log_limits(x, parts.exponent + (y + y * 0.442695041f));
}
WEFT_HD inline double log2(double x) { return __builtin_log2(x); }

WEFT_HD inline float log10(float x) {
  const LogParts parts = log_parts(x);
  const float y = log_near_one(parts.f) * 0.434294482f;
  return log_limits(x, parts.exponent * 0.301025391f + (y + parts.exponent * 4.60503054e-6f));
}
WEFT_HD inline double log10(double x) { return __builtin_log10(x); }

/// log(1 + t) for t in [0, 1].
WEFT_HD inline float log1p_unit(float t) {
  const float s = t / (2.0f + t), z = s * s;
  float q = 0.2430099558f;
  q = q * z + 0.2142763857f;
  q = q * z + 0.2861688697f;
  q = q * z + 0.3999887764f;
  q = q * z + 0.6666667562f;
  return t - s * (t - q * z);
}
WEFT_HD inline double log1p_unit(double t) { return __builtin_log1p(t); }

WEFT_HD inline float sqrt(float x) { return __builtin_sqrtf(x); }
WEFT_HD inline double sqrt(double x) { return __builtin_sqrt(x); }

template <class T>
WEFT_HD inline T sigmoid(T x) {
  return T(1) / (T(1) + exp(-x));
}

// Rational in z = x^2: one division and no exp. From 9 on, tanh is 1 in float.
WEFT_HD inline float tanh(float x) {
  const float limited = x < -9.0f ? -9.0f : (x > 9.0f ? 9.0f : x);
  const float z = limited * limited;
  float p = -1.214056749e-11f;
  p = p * z + 3.050058054e-8f;
  p = p * z + 2.79724893e-5f;
  p = p * z + 0.003866599456f;
  p = p * z + 0.136785372f;
  p = p * z + 1.0f;
  float q = 1.284918489e-6f;
  q = q * z + 0.0003935580389f;
  q = q * z + 0.02723951804f;
  q = q * z + 0.4701186923f;
  q = q * z + 1.0f;
  float y = limited * p / q;
  y = y > 1.0f ? 1.0f : y;
  y = y < -1.0f ? -1.0f : y;
  y = x >= 9.0f ? 1.0f : y;
  y = x <= -9.0f ? -1.0f : y;
  return x == x ? y : x;
}
WEFT_HD inline double tanh(double x) { return __builtin_tanh(x); }

// The same for erf, which is 1 in float from 3.92 on.
WEFT_HD inline float erf(float x) {
  const float limited = x < -3.92f ? -3.92f : (x > 3.92f ? 3.92f : x);
  const float z = limited * limited;
  float p = 2.025764591e-6f;
  p = p * z + 0.0002846426847f;
  p = p * z + 0.003807185508f;
  p = p * z + 0.05287240169f;
  p = p * z + 0.1915307842f;
  p = p * z + 1.128379144f;
  float q = 3.782793718e-5f;
  q = q * z + 0.00117044498f;
  q = q * z + 0.01505316969f;
  q = q * z + 0.114551129f;
  q = q * z + 0.5030724211f;
  q = q * z + 1.0f;
  float y = limited * p / q;
  y = x >= 3.92f ? 1.0f : y;
  y = x <= -3.92f ? -1.0f : y;
  return x == x ? y : x;
}
WEFT_HD inline double erf(double x) { return __builtin_erf(x); }

}  // namespace weft::inline v0::kernel
