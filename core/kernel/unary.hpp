// Functors of the functions of one variable; see Note [Pointwise kernels].
#pragma once

#include <weft/core/kernel/math.hpp>

namespace weft::inline v0::kernel {

#define WEFT_FUNCTION(Name, function) \
  struct Name {                       \
    template <class T>                \
    WEFT_HD T operator()(T x) const { \
      return kernel::function(x);     \
    }                                 \
  };
WEFT_FUNCTION(Exp, exp)
WEFT_FUNCTION(Expm1, expm1)
WEFT_FUNCTION(Log, log)
WEFT_FUNCTION(Log2, log2)
WEFT_FUNCTION(Log10, log10)
WEFT_FUNCTION(Sqrt, sqrt)
WEFT_FUNCTION(Tanh, tanh)
WEFT_FUNCTION(Erf, erf)
WEFT_FUNCTION(Sigmoid, sigmoid)
#undef WEFT_FUNCTION

struct Rsqrt {
  template <class T>
  WEFT_HD T operator()(T x) const {
    return T(1) / kernel::sqrt(x);
  }
};

struct Reciprocal {
  template <class T>
  WEFT_HD T operator()(T x) const {
    return T(1) / x;
  }
};

// Functions that models call rarely are left to the C library.
#define WEFT_LIBRARY_FUNCTION(Name, function)                                      \
  struct Name {                                                                    \
    WEFT_HD float operator()(float x) const { return __builtin_##function##f(x); } \
    WEFT_HD double operator()(double x) const { return __builtin_##function(x); }  \
  };
WEFT_LIBRARY_FUNCTION(Log1p, log1p)
WEFT_LIBRARY_FUNCTION(Sin, sin)
WEFT_LIBRARY_FUNCTION(Cos, cos)
WEFT_LIBRARY_FUNCTION(Tan, tan)
WEFT_LIBRARY_FUNCTION(Asin, asin)
WEFT_LIBRARY_FUNCTION(Acos, acos)
WEFT_LIBRARY_FUNCTION(Atan, atan)
WEFT_LIBRARY_FUNCTION(Sinh, sinh)
WEFT_LIBRARY_FUNCTION(Cosh, cosh)
#undef WEFT_LIBRARY_FUNCTION

struct Atan2 {
  WEFT_HD float operator()(float a, float b) const { return __builtin_atan2f(a, b); }
  WEFT_HD double operator()(double a, double b) const { return __builtin_atan2(a, b); }
};

struct Pow {
  WEFT_HD float operator()(float a, float b) const { return __builtin_powf(a, b); }
  WEFT_HD double operator()(double a, double b) const { return __builtin_pow(a, b); }
  /// Whole numbers wrap around; a negative power is 0 except of 1 and -1.
  WEFT_HD int64_t operator()(int64_t a, int64_t b) const {
    if (b < 0) return a == 1 ? 1 : a == -1 ? ((b & 1) != 0 ? -1 : 1) : 0;
    uint64_t result = 1, base = static_cast<uint64_t>(a);
    for (uint64_t rest = static_cast<uint64_t>(b); rest != 0; rest >>= 1) {
      if ((rest & 1) != 0) result *= base;
      base *= base;
    }
    return static_cast<int64_t>(result);
  }
};

}  // namespace weft::inline v0::kernel
