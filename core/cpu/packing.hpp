// Strided inputs for kernels that want packed ones.
#pragma once

#include <weft/core/op.hpp>

namespace weft::inline v0::detail {

/// The elements of `t` in C order: its own memory where it is packed, else a copy in the workspace.
const std::byte* packed(Context& context, TensorRef t);

/// The same in f32, for f16 and bf16 inputs.
const float* widened(Context& context, TensorRef t);

/// Writes packed elements of `out`'s dtype into `out`, which may be strided.
void unpack(const Context& context, const std::byte* from, TensorRef out);

/// The same, rounding f32 to the 16-bit dtype of `out`.
void narrow(const Context& context, const float* from, TensorRef out);

/// Memory of the calling thread for one task of a kernel, 64-byte aligned; kept for the next one.
std::byte* thread_scratch(size_t bytes);

}  // namespace weft::inline v0::detail
