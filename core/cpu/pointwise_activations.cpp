// Activations and their derivatives, each in one pass.
#include <weft/core/cpu/pointwise.hpp>
#include <weft/core/kernel/activations.hpp>

namespace weft::inline v0::WEFT_LEVEL {

WEFT_POINTWISE(relu, kernel::Relu, 1, kLight)
WEFT_POINTWISE(clamp, kernel::Clamp, 1, kLight)
WEFT_POINTWISE(hardtanh, kernel::Clamp, 1, kLight)
WEFT_POINTWISE_FLOAT(silu, kernel::Silu, 1, kMedium)
WEFT_POINTWISE_FLOAT(gelu, kernel::Gelu, 1, kMedium)
WEFT_POINTWISE_FLOAT(gelu_tanh, kernel::GeluTanh, 1, kMedium)
WEFT_POINTWISE_FLOAT(mish, kernel::Mish, 1, kMedium)
WEFT_POINTWISE_FLOAT(hardswish, kernel::Hardswish, 1, kLight)
WEFT_POINTWISE_FLOAT(hardsigmoid, kernel::Hardsigmoid, 1, kLight)
WEFT_POINTWISE_FLOAT(softsign, kernel::Softsign, 1, kMedium)
WEFT_POINTWISE_FLOAT(logsigmoid, kernel::Logsigmoid, 1, kMedium)
WEFT_POINTWISE_FLOAT(softplus, kernel::Softplus, 1, kMedium)
WEFT_POINTWISE_FLOAT(elu, kernel::Elu, 1, kMedium)
WEFT_POINTWISE_FLOAT(leaky_relu, kernel::LeakyRelu, 1, kLight)

WEFT_POINTWISE_FLOAT(relu_backward, kernel::ReluBackward, 2, kLight)
WEFT_POINTWISE_FLOAT(clamp_backward, kernel::ClampBackward, 2, kLight)
WEFT_POINTWISE_FLOAT(hardtanh_backward, kernel::HardtanhBackward, 2, kLight)
WEFT_POINTWISE_FLOAT(sigmoid_backward, kernel::SigmoidBackward, 2, kLight)
WEFT_POINTWISE_FLOAT(tanh_backward, kernel::TanhBackward, 2, kLight)
WEFT_POINTWISE_FLOAT(silu_backward, kernel::SiluBackward, 2, kMedium)
WEFT_POINTWISE_FLOAT(gelu_backward, kernel::GeluBackward, 2, kMedium)
WEFT_POINTWISE_FLOAT(gelu_tanh_backward, kernel::GeluTanhBackward, 2, kMedium)
WEFT_POINTWISE_FLOAT(mish_backward, kernel::MishBackward, 2, kMedium)
WEFT_POINTWISE_FLOAT(hardswish_backward, kernel::HardswishBackward, 2, kLight)
WEFT_POINTWISE_FLOAT(hardsigmoid_backward, kernel::HardsigmoidBackward, 2, kLight)
WEFT_POINTWISE_FLOAT(softplus_backward, kernel::SoftplusBackward, 2, kMedium)
WEFT_POINTWISE_FLOAT(elu_backward, kernel::EluBackward, 2, kMedium)
WEFT_POINTWISE_FLOAT(leaky_relu_backward, kernel::LeakyReluBackward, 2, kLight)

}  // namespace weft::inline v0::WEFT_LEVEL
