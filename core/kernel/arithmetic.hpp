// Functors of arithmetic and comparison; see Note [Pointwise kernels].
#pragma once

#include <cstdint>
#include <type_traits>

#include <weft/core/kernel/macros.hpp>

namespace weft::inline v0::kernel {

template <class T>
inline constexpr bool kIsWhole = std::is_same_v<T, int64_t>;

/// Whole numbers wrap around: their arithmetic is done on the unsigned type.
template <class T>
using Wrapping = std::conditional_t<kIsWhole<T>, uint64_t, T>;

struct Add {
  template <class T>
  WEFT_HD T operator()(T a, T b) const {
    using W = Wrapping<T>;
    return static_cast<T>(static_cast<W>(a) + static_cast<W>(b));
  }
};

struct Sub {
  template <class T>
  WEFT_HD T operator()(T a, T b) const {
    using W = Wrapping<T>;
    return static_cast<T>(static_cast<W>(a) - static_cast<W>(b));
  }
};

struct Mul {
  template <class T>
  WEFT_HD T operator()(T a, T b) const {
    using W = Wrapping<T>;
    return static_cast<T>(static_cast<W>(a) * static_cast<W>(b));
  }
};

struct Div {
  template <class T>
  WEFT_HD T operator()(T a, T b) const {
    return a / b;
  }
};

struct Neg {
  template <class T>
  WEFT_HD T operator()(T x) const {
    if constexpr (kIsWhole<T>)
      return Sub()(T(0), x);
    else
      return -x;
  }
};

struct Abs {
  template <class T>
  WEFT_HD T operator()(T x) const {
    if constexpr (kIsWhole<T>)
      return x < 0 ? Neg()(x) : x;
    else if constexpr (std::is_same_v<T, float>)
      return __builtin_fabsf(x);
    else
      return __builtin_fabs(x);
  }
};

struct Sign {
  template <class T>
  WEFT_HD T operator()(T x) const {
    const T sign = x > T(0) ? T(1) : x < T(0) ? T(-1) : T(0);
    return x == x ? sign : x;
  }
};

// Whole numbers are what these round to.
#define WEFT_ROUNDING(Name, function)              \
  struct Name {                                    \
    template <class T>                             \
    WEFT_HD T operator()(T x) const {              \
      if constexpr (kIsWhole<T>)                   \
        return x;                                  \
      else if constexpr (std::is_same_v<T, float>) \
        return __builtin_##function##f(x);         \
      else                                         \
        return __builtin_##function(x);            \
    }                                              \
  };
WEFT_ROUNDING(Floor, floor)
WEFT_ROUNDING(Ceil, ceil)
WEFT_ROUNDING(Trunc, trunc)
WEFT_ROUNDING(Round, rint)  // to nearest, ties to even
#undef WEFT_ROUNDING

/// NaN where either is.
struct Maximum {
  template <class T>
  WEFT_HD T operator()(T a, T b) const {
    const T larger = a > b ? a : b;
    return a == a ? larger : a;
  }
};

struct Minimum {
  template <class T>
  WEFT_HD T operator()(T a, T b) const {
    const T smaller = a < b ? a : b;
    return a == a ? smaller : a;
  }
};

#define WEFT_COMPARISON(Name, op)             \
  struct Name {                               \
    template <class T>                        \
    WEFT_HD bool operator()(T a, T b) const { \
      return a op b;                          \
    }                                         \
  };
WEFT_COMPARISON(Equal, ==)
WEFT_COMPARISON(NotEqual, !=)
WEFT_COMPARISON(Less, <)
WEFT_COMPARISON(LessEqual, <=)
WEFT_COMPARISON(Greater, >)
WEFT_COMPARISON(GreaterEqual, >=)
#undef WEFT_COMPARISON

struct LogicalNot {
  template <class T>
  WEFT_HD bool operator()(T x) const {
    return x == T(0);
  }
};
struct LogicalAnd {
  template <class T>
  WEFT_HD bool operator()(T a, T b) const {
    return (a != T(0)) & (b != T(0));
  }
};
struct LogicalOr {
  template <class T>
  WEFT_HD bool operator()(T a, T b) const {
    return (a != T(0)) | (b != T(0));
  }
};
struct LogicalXor {
  template <class T>
  WEFT_HD bool operator()(T a, T b) const {
    return (a != T(0)) != (b != T(0));
  }
};

struct BitwiseAnd {
  WEFT_HD int64_t operator()(int64_t a, int64_t b) const { return a & b; }
};
struct BitwiseOr {
  WEFT_HD int64_t operator()(int64_t a, int64_t b) const { return a | b; }
};
struct BitwiseXor {
  WEFT_HD int64_t operator()(int64_t a, int64_t b) const { return a ^ b; }
};

struct IsNan {
  template <class T>
  WEFT_HD bool operator()(T x) const {
    return x != x;
  }
};
struct IsInf {
  template <class T>
  WEFT_HD bool operator()(T x) const {
    if constexpr (kIsWhole<T>)
      return false;
    else
      return Abs()(x) == static_cast<T>(__builtin_inf());
  }
};
struct IsFinite {
  template <class T>
  WEFT_HD bool operator()(T x) const {
    if constexpr (kIsWhole<T>)
      return true;
    else
      return Abs()(x) < static_cast<T>(__builtin_inf());
  }
};

struct Where {
  template <class T>
  WEFT_HD T operator()(T condition, T a, T b) const {
    return condition != T(0) ? a : b;
  }
};

/// The remainder with the sign of the dividend.
struct Fmod {
  static constexpr const char* kName = "fmod";
  template <class T>
  WEFT_HD T operator()(T a, T b) const {
    if constexpr (kIsWhole<T>)
      return b == -1 ? 0 : a % b;  // the quotient of the lowest number and -1 overflows
    else if constexpr (std::is_same_v<T, float>)
      return __builtin_fmodf(a, b);
    else
      return __builtin_fmod(a, b);
  }
};

/// The remainder with the sign of the divisor.
struct Remainder {
  static constexpr const char* kName = "remainder";
  template <class T>
  WEFT_HD T operator()(T a, T b) const {
    const T rest = Fmod()(a, b);
    const bool opposite = (rest != T(0)) & ((b < T(0)) != (rest < T(0)));
    return opposite ? rest + b : rest;
  }
};

/// The quotient rounded down; exact where the rounded quotient would land on the next number.
struct FloorDivide {
  static constexpr const char* kName = "floor_divide";
  template <class T>
  WEFT_HD T operator()(T a, T b) const {
    if constexpr (kIsWhole<T>) {
      if (b == -1) return Neg()(a);
      const T quotient = a / b;
      const bool opposite = (a % b != 0) & ((a < 0) != (b < 0));
      return opposite ? quotient - 1 : quotient;
    } else {
      const T rest = Fmod()(a, b);
      const T even = (a - rest) / b;
      const bool opposite = (rest != T(0)) & ((b < T(0)) != (rest < T(0)));
      const T quotient = opposite ? even - T(1) : even;
      const T down = Floor()(quotient);
      const T nearest = quotient - down > T(0.5) ? down + T(1) : down;
      const T zero = static_cast<T>(__builtin_copysign(0.0, static_cast<double>(a / b)));
      return b == T(0) ? a / b : quotient == T(0) ? zero : nearest;
    }
  }
};

}  // namespace weft::inline v0::kernel
