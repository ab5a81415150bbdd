// The kernel table of one CPU level.
#include <weft/core/cpu/kernel.hpp>

namespace weft::inline v0::WEFT_LEVEL {

extern const KernelFn kKernels[];
const KernelFn kKernels[] = {
#define WEFT_OP(name, ...) name,
#define WEFT_VIEW(...) nullptr,
#include <weft/core/ops.def>
};

}  // namespace weft::inline v0::WEFT_LEVEL
