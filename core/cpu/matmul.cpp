// Kernels of matmul and linear; products.cpp has the work.
#include <weft/core/cpu/kernel.hpp>
#include <weft/core/cpu/products.hpp>

namespace weft::inline v0::WEFT_LEVEL {

WEFT_KERNEL(matmul) { detail::matmul_kernel(context, inputs, outputs); }
WEFT_KERNEL(linear) { detail::linear_kernel(context, inputs, outputs); }

}  // namespace weft::inline v0::WEFT_LEVEL
