// Element types.
#pragma once

#include <bit>
#include <cstdint>
#include <string_view>

#include <weft/core/base/api.hpp>

namespace weft::inline v0 {

/// Element type of a tensor. The order is the order of promotion inside each category.
enum class DType : uint8_t { boolean, u8, i8, i16, i32, i64, f16, bf16, f32, f64 };
inline constexpr int kDTypeCount = 10;

/// Bytes of one element.
constexpr int64_t size_of(DType dtype) {
  constexpr uint8_t kSizes[kDTypeCount] = {1, 1, 1, 2, 4, 8, 2, 2, 4, 8};
  return kSizes[static_cast<int>(dtype)];
}

/// Name as in the code: "f32", "i64", "bool" …
constexpr std::string_view name_of(DType dtype) {
  constexpr std::string_view kNames[kDTypeCount] = {"bool", "u8",  "i8",   "i16", "i32",
                                                    "i64",  "f16", "bf16", "f32", "f64"};
  return kNames[static_cast<int>(dtype)];
}

constexpr bool is_floating(DType dtype) { return dtype >= DType::f16; }
constexpr bool is_integral(DType dtype) { return dtype < DType::f16 && dtype != DType::boolean; }

/// The type that an operation on both gives, by PyTorch's lattice (for tensors with dimensions).
WEFT_API DType promote_types(DType a, DType b);

/// IEEE binary16 as stored; arithmetic happens in float.
struct float16 {
  uint16_t bits = 0;
  float16() = default;
  WEFT_API explicit float16(float value);
  WEFT_API explicit operator float() const;
  bool operator==(const float16&) const = default;
};

/// The upper half of an IEEE binary32 as stored; arithmetic happens in float.
struct bfloat16 {
  uint16_t bits = 0;
  bfloat16() = default;
  explicit bfloat16(float value) {
    const auto b = std::bit_cast<uint32_t>(value);
    const uint32_t rounded = b + 0x7fffu + ((b >> 16) & 1u);  // to nearest, ties to even
    bits = static_cast<uint16_t>(value != value ? 0x7fc0u : rounded >> 16);
  }
  explicit operator float() const {
    return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
  }
  bool operator==(const bfloat16&) const = default;
};

/// The DType of a C++ type, for `item<T>`, `data<T>`, `from_blob`.
template <class T>
struct DTypeOf;
// clang-format off
template <> struct DTypeOf<bool> { static constexpr DType value = DType::boolean; };
template <> struct DTypeOf<uint8_t> { static constexpr DType value = DType::u8; };
template <> struct DTypeOf<int8_t> { static constexpr DType value = DType::i8; };
template <> struct DTypeOf<int16_t> { static constexpr DType value = DType::i16; };
template <> struct DTypeOf<int32_t> { static constexpr DType value = DType::i32; };
template <> struct DTypeOf<int64_t> { static constexpr DType value = DType::i64; };
template <> struct DTypeOf<float16> { static constexpr DType value = DType::f16; };
template <> struct DTypeOf<bfloat16> { static constexpr DType value = DType::bf16; };
template <> struct DTypeOf<float> { static constexpr DType value = DType::f32; };
template <> struct DTypeOf<double> { static constexpr DType value = DType::f64; };
// clang-format on
template <class T>
inline constexpr DType dtype_of = DTypeOf<T>::value;

}  // namespace weft::inline v0
