// Pointwise ops of two and three inputs.
#include <weft/core/cpu/pointwise.hpp>
#include <weft/core/cpu/pointwise_errors.hpp>
#include <weft/core/kernel/activations.hpp>
#include <weft/core/kernel/arithmetic.hpp>
#include <weft/core/kernel/unary.hpp>

namespace weft::inline v0::WEFT_LEVEL {

namespace {

/// Division of whole numbers, which has no result for a divisor of zero.
template <class F>
void divide_whole(const void* const* in, void* out, int64_t n, const Attrs& attrs) {
  const int64_t* divisor = static_cast<const int64_t*>(in[1]);
  bool zero = false;
  for (int64_t i = 0; i < n; ++i) zero |= divisor[i] == 0;
  if (zero) detail::fail_division(F::kName);
  compute_block<F, int64_t, int64_t, 2>(in, out, n, attrs);
}

template <class F>
void run_division(Context& context, const Attrs& attrs, Inputs inputs, TensorRef output) {
  static constexpr PointwiseOp kOp{compute_block<F, float, float, 2>,
                                   compute_block<F, double, double, 2>, divide_whole<F>, false,
                                   kHeavy};
  run_pointwise(kOp, context, attrs, inputs, output);
}

}  // namespace

WEFT_POINTWISE(add, kernel::Add, 2, kLight)
WEFT_POINTWISE(sub, kernel::Sub, 2, kLight)
WEFT_POINTWISE(mul, kernel::Mul, 2, kLight)
WEFT_POINTWISE_FLOAT(div, kernel::Div, 2, kLight)
WEFT_POINTWISE(maximum, kernel::Maximum, 2, kLight)
WEFT_POINTWISE(minimum, kernel::Minimum, 2, kLight)
WEFT_POINTWISE(pow, kernel::Pow, 2, kHeavy)
WEFT_POINTWISE_FLOAT(atan2, kernel::Atan2, 2, kHeavy)

WEFT_KERNEL(fmod) { run_division<kernel::Fmod>(context, attrs, inputs, outputs[0]); }
WEFT_KERNEL(remainder) { run_division<kernel::Remainder>(context, attrs, inputs, outputs[0]); }
WEFT_KERNEL(floor_divide) { run_division<kernel::FloorDivide>(context, attrs, inputs, outputs[0]); }

WEFT_POINTWISE_TRUTH(eq, kernel::Equal, 2, kLight)
WEFT_POINTWISE_TRUTH(ne, kernel::NotEqual, 2, kLight)
WEFT_POINTWISE_TRUTH(lt, kernel::Less, 2, kLight)
WEFT_POINTWISE_TRUTH(le, kernel::LessEqual, 2, kLight)
WEFT_POINTWISE_TRUTH(gt, kernel::Greater, 2, kLight)
WEFT_POINTWISE_TRUTH(ge, kernel::GreaterEqual, 2, kLight)
WEFT_POINTWISE_TRUTH(logical_and, kernel::LogicalAnd, 2, kLight)
WEFT_POINTWISE_TRUTH(logical_or, kernel::LogicalOr, 2, kLight)
WEFT_POINTWISE_TRUTH(logical_xor, kernel::LogicalXor, 2, kLight)
WEFT_POINTWISE_WHOLE(bitwise_and, kernel::BitwiseAnd, 2, kLight)
WEFT_POINTWISE_WHOLE(bitwise_or, kernel::BitwiseOr, 2, kLight)
WEFT_POINTWISE_WHOLE(bitwise_xor, kernel::BitwiseXor, 2, kLight)

WEFT_POINTWISE(where, kernel::Where, 3, kLight)
WEFT_POINTWISE_FLOAT(lerp, kernel::Lerp, 2, kLight)
WEFT_POINTWISE_FLOAT(addcmul, kernel::Addcmul, 3, kLight)
WEFT_POINTWISE_FLOAT(addcdiv, kernel::Addcdiv, 3, kLight)

}  // namespace weft::inline v0::WEFT_LEVEL
