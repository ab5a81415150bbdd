// CPU levels: each kernel file is compiled once per level, in a namespace of its own, and one level
// is chosen when the library is first used.
#pragma once

#include <weft/core/op.hpp>

namespace weft::inline v0::detail {

enum class CpuLevel { baseline, avx2, avx512 };

/// The highest level that was built, that this CPU has, and that WEFT_CPU_LEVEL allows.
/// Throws ArgumentError for an unknown WEFT_CPU_LEVEL.
WEFT_API CpuLevel cpu_level();

/// "baseline", "avx2", "avx512".
WEFT_API const char* name_of(CpuLevel level);

/// Kernels by OpId at cpu_level(); null for views.
const KernelFn* cpu_kernel_table();

}  // namespace weft::inline v0::detail
