#include <weft/core/dtype.hpp>

#include <algorithm>

#include <weft/core/kernel/half.hpp>

namespace weft::inline v0 {

DType promote_types(DType a, DType b) {
  if (a == b) return a;
  const DType low = std::min(a, b), high = std::max(a, b);
  if (low == DType::boolean) return high;
  // u8 has no place in the order of the signed types: with i8 it needs i16.
  if (low == DType::u8 && high == DType::i8) return DType::i16;
  // Neither of the 16-bit floats holds the other.
  if (low == DType::f16 && high == DType::bf16) return DType::f32;
  return high;
}

float16::float16(float value) : bits(kernel::half_from_float(value)) {}
float16::operator float() const { return kernel::float_from_half(bits); }

}  // namespace weft::inline v0
