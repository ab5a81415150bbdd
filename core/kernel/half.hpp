// Conversions between float and the 16-bit formats, branch-free, so that loops over them vectorise.
#pragma once

#include <bit>
#include <cstdint>

#include <weft/core/kernel/macros.hpp>

namespace weft::inline v0::kernel {

/// binary16 to binary32, exact. Subnormals become normal by a float multiplication.
WEFT_HD inline float float_from_half(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16;
  const uint32_t body = static_cast<uint32_t>(h & 0x7fffu) << 13;
  // Moving the exponent from bias 15 to bias 127 is a multiplication by 2^112.
  const float scaled = std::bit_cast<float>(body) * 0x1p112f;
  const uint32_t special = body >= 0x0f800000u ? 0x7f800000u : 0u;  // infinity and NaN
  return std::bit_cast<float>(std::bit_cast<uint32_t>(scaled) | special | sign);
}

/// binary32 to binary16, to nearest, ties to even; overflow gives infinity, NaN stays NaN.
WEFT_HD inline uint16_t half_from_float(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  // Subnormal results: adding 0.5 lets the float adder round at the right place.
  const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
  const uint32_t subnormal = std::bit_cast<uint32_t>(shifted) - 0x3f000000u;
  const uint32_t odd = (magnitude >> 13) & 1u;
  const uint32_t normal = (magnitude - 0x38000000u + 0xfffu + odd) >> 13;
  const uint32_t finite = magnitude < 0x38800000u ? subnormal : normal;
  const uint32_t infinite = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
  const uint32_t result = magnitude >= 0x477ff000u ? infinite : finite;
  return static_cast<uint16_t>(result | sign);
}

WEFT_HD inline float float_from_bfloat(uint16_t b) {
  return std::bit_cast<float>(static_cast<uint32_t>(b) << 16);
}

WEFT_HD inline uint16_t bfloat_from_float(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return static_cast<uint16_t>(value != value ? 0x7fc0u : rounded);
}

}  // namespace weft::inline v0::kernel
