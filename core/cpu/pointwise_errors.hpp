// What pointwise kernels report, out of line and outside the CPU levels.
#pragma once

namespace weft::inline v0::detail {

/// Throws ArgumentError: a whole number was divided by zero.
[[noreturn]] void fail_division(const char* op);

}  // namespace weft::inline v0::detail
