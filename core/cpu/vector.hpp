// Vectors for row kernels: sums and maxima over a row need an order of their own, which the
// compiler may not choose by itself. Included by kernel files alone, once per CPU level.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include <weft/core/cpu/kernel.hpp>
#include <weft/core/kernel/half.hpp>

namespace weft::inline v0::WEFT_LEVEL {

#define WEFT_ROW [[gnu::always_inline]] inline

#if defined(__AVX512F__)
inline constexpr int kVectorBytes = 64;
#elif defined(__AVX__)
inline constexpr int kVectorBytes = 32;
#else
inline constexpr int kVectorBytes = 16;
#endif

typedef float FloatVector __attribute__((vector_size(kVectorBytes)));
typedef int32_t Int32Vector __attribute__((vector_size(kVectorBytes)));
typedef uint32_t UInt32Vector __attribute__((vector_size(kVectorBytes)));
typedef uint16_t UInt16Vector __attribute__((vector_size(kVectorBytes / 2)));
typedef double DoubleVector __attribute__((vector_size(kVectorBytes)));
typedef int64_t Int64Vector __attribute__((vector_size(kVectorBytes)));

/// What a dtype is computed in: 16-bit formats in float.
template <class T>
struct ComputeOf {
  using type = T;
};
template <>
struct ComputeOf<float16> {
  using type = float;
};
template <>
struct ComputeOf<bfloat16> {
  using type = float;
};
template <class T>
using Compute = typename ComputeOf<T>::type;

/// Vector of a compute type (float or double) and its companions.
template <class S>
struct VectorOf;
template <>
struct VectorOf<float> {
  using type = FloatVector;
  using integer = Int32Vector;
  static constexpr int width = kVectorBytes / 4;
};
template <>
struct VectorOf<double> {
  using type = DoubleVector;
  using integer = Int64Vector;
  static constexpr int width = kVectorBytes / 8;
};
template <class S>
using Vector = typename VectorOf<S>::type;
template <class S>
inline constexpr int kWidth = VectorOf<S>::width;

WEFT_ROW float widen(float value) { return value; }
WEFT_ROW double widen(double value) { return value; }
WEFT_ROW float widen(float16 value) { return kernel::float_from_half(value.bits); }
WEFT_ROW float widen(bfloat16 value) { return kernel::float_from_bfloat(value.bits); }

WEFT_ROW void narrow(float* out, float value) { *out = value; }
WEFT_ROW void narrow(double* out, double value) { *out = value; }
WEFT_ROW void narrow(float16* out, float value) { out->bits = kernel::half_from_float(value); }
WEFT_ROW void narrow(bfloat16* out, float value) { out->bits = kernel::bfloat_from_float(value); }

template <class V, class T>
WEFT_ROW V load_raw(const T* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

WEFT_ROW FloatVector load(const float* p) { return load_raw<FloatVector>(p); }
WEFT_ROW DoubleVector load(const double* p) { return load_raw<DoubleVector>(p); }
WEFT_ROW FloatVector load(const bfloat16* p) {
  const UInt32Vector wide = __builtin_convertvector(load_raw<UInt16Vector>(p), UInt32Vector);
  return __builtin_bit_cast(FloatVector, wide << 16);
}
// The steps of kernel::float_from_half.
WEFT_ROW FloatVector load(const float16* p) {
  const UInt32Vector h = __builtin_convertvector(load_raw<UInt16Vector>(p), UInt32Vector);
  const UInt32Vector sign = (h & 0x8000u) << 16, body = (h & 0x7fffu) << 13;
  const FloatVector scaled = __builtin_bit_cast(FloatVector, body) * 0x1p112f;
  const UInt32Vector special =
      __builtin_bit_cast(UInt32Vector, body >= (UInt32Vector{} + 0x0f800000u)) & 0x7f800000u;
  return __builtin_bit_cast(FloatVector, __builtin_bit_cast(UInt32Vector, scaled) | special | sign);
}

WEFT_ROW void store(float* p, FloatVector v) { __builtin_memcpy(p, &v, sizeof v); }
WEFT_ROW void store(double* p, DoubleVector v) { __builtin_memcpy(p, &v, sizeof v); }
WEFT_ROW void store(bfloat16* p, FloatVector v) {
  const UInt32Vector bits = __builtin_bit_cast(UInt32Vector, v);
  const UInt32Vector rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const UInt32Vector nan = UInt32Vector{} + 0x7fc0u;
  const UInt32Vector result = v != v ? nan : rounded;
  const UInt16Vector out = __builtin_convertvector(result, UInt16Vector);
  __builtin_memcpy(static_cast<void*>(p), &out, sizeof out);
}
WEFT_ROW void store(float16* p, FloatVector v) {
  float lanes[kWidth<float>];
  __builtin_memcpy(lanes, &v, sizeof v);
  for (int i = 0; i < kWidth<float>; ++i) p[i].bits = kernel::half_from_float(lanes[i]);
}

/// The first `count` lanes from memory, zeros behind them.
template <class T>
WEFT_ROW Vector<Compute<T>> load_some(const T* p, int count) {
  Compute<T> lanes[kWidth<Compute<T>>] = {};
  for (int i = 0; i < count; ++i) lanes[i] = widen(p[i]);
  return load(lanes);
}
template <class T>
WEFT_ROW void store_some(T* p, Vector<Compute<T>> v, int count) {
  Compute<T> lanes[kWidth<Compute<T>>];
  store(lanes, v);
  for (int i = 0; i < count; ++i) narrow(p + i, lanes[i]);
}

/// `v` with the lanes from `count` on replaced by `fill`.
WEFT_ROW FloatVector keep_lanes(FloatVector v, int count, float fill) {
  Int32Vector lane;
  for (int i = 0; i < kWidth<float>; ++i) lane[i] = i;
  const FloatVector other = FloatVector{} + fill;
  return lane < (Int32Vector{} + count) ? v : other;
}
WEFT_ROW DoubleVector keep_lanes(DoubleVector v, int count, double fill) {
  Int64Vector lane;
  for (int i = 0; i < kWidth<double>; ++i) lane[i] = i;
  const DoubleVector other = DoubleVector{} + fill;
  return lane < (Int64Vector{} + static_cast<int64_t>(count)) ? v : other;
}

/// e^x for x up to 80 or so (rows subtract their maximum first); 0 below the smallest normal
/// number, NaN stays NaN. The reduction and the coefficients are those of Cephes.
WEFT_ROW FloatVector exp_of(FloatVector x) {
  const FloatVector low = FloatVector{} - 87.3f;
  const FloatVector clamped = x > low ? x : low;
  const float round = 12582912.0f;  // adding 1.5 * 2^23 rounds to whole numbers
  const FloatVector shifted = clamped * 1.44269504f + round;
  const FloatVector n = shifted - round;
  FloatVector r = clamped - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  FloatVector p = FloatVector{} + 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const Int32Vector e = (__builtin_bit_cast(Int32Vector, shifted) - 0x4b400000) << 23;
  const FloatVector y = __builtin_bit_cast(FloatVector, __builtin_bit_cast(Int32Vector, p) + e);
  const FloatVector flushed = x < low ? FloatVector{} : y;
  return x == x ? flushed : x;
}

WEFT_ROW DoubleVector exp_of(DoubleVector x) {
  const DoubleVector low = DoubleVector{} - 708.0;
  const DoubleVector clamped = x > low ? x : low;
  const double round = 6755399441055744.0;  // 1.5 * 2^52
  const DoubleVector shifted = clamped * 1.4426950408889634 + round;
  const DoubleVector n = shifted - round;
  DoubleVector r = clamped - n * 6.93145751953125e-1;
  r = r - n * 1.42860682030941723212e-6;
  const DoubleVector rr = r * r;
  const DoubleVector p = r * ((1.26177193074810590878e-4 * rr + 3.02994407707441961300e-2) * rr +
                              9.99999999999999999910e-1);
  const DoubleVector q = ((3.00198505138664455042e-6 * rr + 2.52448340349684104192e-3) * rr +
                          2.27265548208155028766e-1) *
                             rr +
                         2.0;
  const DoubleVector m = 1.0 + 2.0 * p / (q - p);
  const Int64Vector e = (__builtin_bit_cast(Int64Vector, shifted) - 0x4338000000000000) << 52;
  const DoubleVector y = __builtin_bit_cast(DoubleVector, __builtin_bit_cast(Int64Vector, m) + e);
  const DoubleVector flushed = x < low ? DoubleVector{} : y;
  return x == x ? flushed : x;
}

WEFT_ROW float log_of(float x) { return __builtin_logf(x); }
WEFT_ROW double log_of(double x) { return __builtin_log(x); }
WEFT_ROW float sqrt_of(float x) { return __builtin_sqrtf(x); }
WEFT_ROW double sqrt_of(double x) { return __builtin_sqrt(x); }

// Folds: two values (or vectors of them) into one.
struct Plus {
  template <class X>
  WEFT_ROW static X fold(X a, X b) {
    return a + b;
  }
};
/// The larger one; NaN wins, as in PyTorch.
struct Larger {
  template <class X>
  WEFT_ROW static X fold(X a, X b) {
    return ((b > a) | (b != b)) ? b : a;
  }
};
struct Smaller {
  template <class X>
  WEFT_ROW static X fold(X a, X b) {
    return ((b < a) | (b != b)) ? b : a;
  }
};
struct Times {
  template <class X>
  WEFT_ROW static X fold(X a, X b) {
    return a * b;
  }
};

/// All lanes into one, halves first, so that the order does not depend on the compiler.
template <class Fold, class S>
WEFT_ROW S fold_lanes(Vector<S> v) {
  S lanes[kWidth<S>];
  store(lanes, v);
  for (int half = kWidth<S> / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) lanes[i] = Fold::fold(lanes[i], lanes[i + half]);
  return lanes[0];
}

/// Folds map(x[0]) … map(x[n-1]), four vectors at a time; `map` takes a vector of the compute type
/// and, where `Map` wants it, the position.
template <class Fold, class T, class Map>
WEFT_ROW Compute<T> fold_row(const T* x, int64_t n, Compute<T> neutral, const Map& map) {
  using S = Compute<T>;
  constexpr int kStep = kWidth<S>;
  const Vector<S> start = Vector<S>{} + neutral;
  Vector<S> a = start, b = start, c = start, d = start;
  int64_t i = 0;
  for (; i + 4 * kStep <= n; i += 4 * kStep) {
    a = Fold::fold(a, map(load(x + i)));
    b = Fold::fold(b, map(load(x + i + kStep)));
    c = Fold::fold(c, map(load(x + i + 2 * kStep)));
    d = Fold::fold(d, map(load(x + i + 3 * kStep)));
  }
  for (; i + kStep <= n; i += kStep) a = Fold::fold(a, map(load(x + i)));
  const int rest = static_cast<int>(n - i);
  if (rest > 0) b = Fold::fold(b, keep_lanes(map(load_some(x + i, rest)), rest, neutral));
  return fold_lanes<Fold, S>(Fold::fold(Fold::fold(a, b), Fold::fold(c, d)));
}

/// y[i] = map(x[i]) over a row.
template <class T, class Out, class Map>
WEFT_ROW void map_row(const T* x, Out* y, int64_t n, const Map& map) {
  constexpr int kStep = kWidth<Compute<T>>;
  int64_t i = 0;
  for (; i + kStep <= n; i += kStep) store(y + i, map(load(x + i)));
  const int rest = static_cast<int>(n - i);
  if (rest > 0) store_some(y + i, map(load_some(x + i, rest)), rest);
}

/// y[i] = map(a[i], b[i]) over a row.
template <class A, class B, class Out, class Map>
WEFT_ROW void map_row(const A* a, const B* b, Out* y, int64_t n, const Map& map) {
  constexpr int kStep = kWidth<Compute<A>>;
  int64_t i = 0;
  for (; i + kStep <= n; i += kStep) store(y + i, map(load(a + i), load(b + i)));
  const int rest = static_cast<int>(n - i);
  if (rest > 0) store_some(y + i, map(load_some(a + i, rest), load_some(b + i, rest)), rest);
}

/// Calls f with a value of the C++ type of a floating dtype.
template <class F>
WEFT_ROW void for_floating(DType dtype, const F& f) {
  switch (dtype) {
    case DType::f16: return f(float16());
    case DType::bf16: return f(bfloat16());
    case DType::f64: return f(double());
    default: return f(float());
  }
}

/// The same for every dtype; bool comes as uint8_t.
template <class F>
WEFT_ROW void for_any(DType dtype, const F& f) {
  switch (dtype) {
    case DType::boolean:
    case DType::u8: return f(uint8_t());
    case DType::i8: return f(int8_t());
    case DType::i16: return f(int16_t());
    case DType::i32: return f(int32_t());
    case DType::i64: return f(int64_t());
    default: return for_floating(dtype, f);
  }
}

/// The same for code that only moves elements: an unsigned type of the dtype's size.
template <class F>
WEFT_ROW void for_size(DType dtype, const F& f) {
  switch (size_of(dtype)) {
    case 1: return f(uint8_t());
    case 2: return f(uint16_t());
    case 4: return f(uint32_t());
    default: return f(uint64_t());
  }
}

template <class T>
inline constexpr bool kIsFloating = false;
template <>
inline constexpr bool kIsFloating<float> = true;
template <>
inline constexpr bool kIsFloating<double> = true;
template <>
inline constexpr bool kIsFloating<float16> = true;
template <>
inline constexpr bool kIsFloating<bfloat16> = true;

}  // namespace weft::inline v0::WEFT_LEVEL
