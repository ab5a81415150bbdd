// Kernels whose work is done by libraries; products.hpp says where.
#include <weft/core/cpu/kernel.hpp>
#include <weft/core/cpu/products.hpp>

namespace weft::inline v0::WEFT_LEVEL {

WEFT_KERNEL(matmul) { detail::matmul_kernel(context, inputs, outputs); }
WEFT_KERNEL(linear) { detail::linear_kernel(context, inputs, outputs); }
WEFT_KERNEL(conv2d) { detail::conv2d_kernel(context, attrs, inputs, outputs); }
WEFT_KERNEL(conv2d_backward_input) {
  detail::conv2d_backward_input_kernel(context, attrs, inputs, outputs);
}
WEFT_KERNEL(conv2d_backward_weight) {
  detail::conv2d_backward_weight_kernel(context, attrs, inputs, outputs);
}

}  // namespace weft::inline v0::WEFT_LEVEL
