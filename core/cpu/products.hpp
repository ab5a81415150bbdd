// Kernels of the ops whose work is matrix products. They hold no code of a CPU level (the libraries
// behind gemm.hpp choose theirs), so they are compiled once; the table's kernels call them.
#pragma once

#include <weft/core/op.hpp>

namespace weft::inline v0::detail {

void matmul_kernel(Context& context, Inputs inputs, Outputs outputs);
void linear_kernel(Context& context, Inputs inputs, Outputs outputs);
void conv2d_kernel(Context& context, const Attrs& attrs, Inputs inputs, Outputs outputs);
void conv2d_backward_input_kernel(Context& context, const Attrs& attrs, Inputs inputs,
                                  Outputs outputs);
void conv2d_backward_weight_kernel(Context& context, const Attrs& attrs, Inputs inputs,
                                   Outputs outputs);

}  // namespace weft::inline v0::detail
