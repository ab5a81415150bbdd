// Kernel look-up. Not for users.
#pragma once

#include <weft/core/op.hpp>

namespace weft::inline v0::detail {

/// The CPU's kernel of `op`, at the CPU level in use; null for views.
KernelFn cpu_kernel(OpId op);

}  // namespace weft::inline v0::detail
