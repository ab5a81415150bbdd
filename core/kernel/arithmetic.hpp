// Functors of the arithmetic ops; see Note [Pointwise kernels].
#pragma once

#include <cstdint>
#include <type_traits>

#include <weft/core/kernel/macros.hpp>

namespace weft::inline v0::kernel {

/// Whole numbers wrap around: their arithmetic is done on the unsigned type.
template <class T>
struct Wrapping {
  using type = T;
};
template <>
struct Wrapping<int64_t> {
  using type = uint64_t;
};

struct Add {
  template <class T>
  WEFT_HD T operator()(T a, T b) const {
    using W = typename Wrapping<T>::type;
    return static_cast<T>(static_cast<W>(a) + static_cast<W>(b));
  }
};

struct Mul {
  template <class T>
  WEFT_HD T operator()(T a, T b) const {
    using W = typename Wrapping<T>::type;
    return static_cast<T>(static_cast<W>(a) * static_cast<W>(b));
  }
};

}  // namespace weft::inline v0::kernel
