// Pointwise ops of two and three inputs.
#include <weft/core/cpu/pointwise.hpp>
#include <weft/core/kernel/arithmetic.hpp>

namespace weft::inline v0::WEFT_LEVEL {

WEFT_POINTWISE(add, kernel::Add, 2, kLight)
WEFT_POINTWISE(mul, kernel::Mul, 2, kLight)

}  // namespace weft::inline v0::WEFT_LEVEL
