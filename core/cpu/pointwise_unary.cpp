// Pointwise functions of one variable.
#include <weft/core/cpu/pointwise.hpp>
#include <weft/core/kernel/arithmetic.hpp>
#include <weft/core/kernel/unary.hpp>

namespace weft::inline v0::WEFT_LEVEL {

WEFT_POINTWISE(neg, kernel::Neg, 1, kLight)
WEFT_POINTWISE(abs, kernel::Abs, 1, kLight)
WEFT_POINTWISE(sign, kernel::Sign, 1, kLight)
WEFT_POINTWISE(floor, kernel::Floor, 1, kLight)
WEFT_POINTWISE(ceil, kernel::Ceil, 1, kLight)
WEFT_POINTWISE(round, kernel::Round, 1, kLight)
WEFT_POINTWISE(trunc, kernel::Trunc, 1, kLight)

WEFT_POINTWISE_FLOAT(exp, kernel::Exp, 1, kMedium)
WEFT_POINTWISE_FLOAT(expm1, kernel::Expm1, 1, kMedium)
WEFT_POINTWISE_FLOAT(log, kernel::Log, 1, kMedium)
WEFT_POINTWISE_FLOAT(log2, kernel::Log2, 1, kMedium)
WEFT_POINTWISE_FLOAT(log10, kernel::Log10, 1, kMedium)
WEFT_POINTWISE_FLOAT(sqrt, kernel::Sqrt, 1, kMedium)
WEFT_POINTWISE_FLOAT(rsqrt, kernel::Rsqrt, 1, kMedium)
WEFT_POINTWISE_FLOAT(reciprocal, kernel::Reciprocal, 1, kMedium)
WEFT_POINTWISE_FLOAT(tanh, kernel::Tanh, 1, kMedium)
WEFT_POINTWISE_FLOAT(erf, kernel::Erf, 1, kMedium)
WEFT_POINTWISE_FLOAT(sigmoid, kernel::Sigmoid, 1, kMedium)

WEFT_POINTWISE_FLOAT(log1p, kernel::Log1p, 1, kHeavy)
WEFT_POINTWISE_FLOAT(sin, kernel::Sin, 1, kHeavy)
WEFT_POINTWISE_FLOAT(cos, kernel::Cos, 1, kHeavy)
WEFT_POINTWISE_FLOAT(tan, kernel::Tan, 1, kHeavy)
WEFT_POINTWISE_FLOAT(asin, kernel::Asin, 1, kHeavy)
WEFT_POINTWISE_FLOAT(acos, kernel::Acos, 1, kHeavy)
WEFT_POINTWISE_FLOAT(atan, kernel::Atan, 1, kHeavy)
WEFT_POINTWISE_FLOAT(sinh, kernel::Sinh, 1, kHeavy)
WEFT_POINTWISE_FLOAT(cosh, kernel::Cosh, 1, kHeavy)

WEFT_POINTWISE_TRUTH(isnan, kernel::IsNan, 1, kLight)
WEFT_POINTWISE_TRUTH(isinf, kernel::IsInf, 1, kLight)
WEFT_POINTWISE_TRUTH(isfinite, kernel::IsFinite, 1, kLight)
WEFT_POINTWISE_TRUTH(logical_not, kernel::LogicalNot, 1, kLight)

}  // namespace weft::inline v0::WEFT_LEVEL
