// Conversion between element types, branch-free. Pointwise ops compute in float, double or int64.
#pragma once

#include <type_traits>

#include <weft/core/dtype.hpp>
#include <weft/core/kernel/half.hpp>

namespace weft::inline v0::kernel {

/// `value` as a To. Truth values are `value != 0`; whole numbers are cut to the lower bits; 16-bit
/// floats are rounded to nearest even.
template <class To, class From>
WEFT_HD inline To convert(From value) {
  if constexpr (std::is_same_v<To, From>) {
    return value;
  } else if constexpr (std::is_same_v<From, float16>) {
    return convert<To>(float_from_half(value.bits));
  } else if constexpr (std::is_same_v<From, bfloat16>) {
    return convert<To>(float_from_bfloat(value.bits));
  } else if constexpr (std::is_same_v<To, float16>) {
    To result;
    result.bits = half_from_float(static_cast<float>(value));
    return result;
  } else if constexpr (std::is_same_v<To, bfloat16>) {
    To result;
    result.bits = bfloat_from_float(static_cast<float>(value));
    return result;
  } else if constexpr (std::is_same_v<To, bool>) {
    return value != From(0);
  } else if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) {
    return static_cast<To>(static_cast<int64_t>(value));
  } else {
    return static_cast<To>(value);
  }
}

}  // namespace weft::inline v0::kernel
