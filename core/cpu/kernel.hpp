// What every kernel file starts from. Kernel files are compiled once per CPU level; all that they
// define lies in WEFT_LEVEL, and they use no inline function of the standard library that the
// compiler might emit as a weak symbol: the linker could then give new code to an old CPU.
#pragma once

#include <weft/core/op.hpp>

#ifndef WEFT_LEVEL
#error "kernel files are compiled with -DWEFT_LEVEL=cpu_<level>"
#endif

namespace weft::inline v0::WEFT_LEVEL {

// Every kernel of the table, so that a definition with another signature does not compile.
#define WEFT_OP(name, ...) \
  void name(Context& context, const Attrs& attrs, Inputs inputs, Outputs outputs);
#define WEFT_VIEW(...)
#include <weft/core/ops.def>

}  // namespace weft::inline v0::WEFT_LEVEL

/// Head of the kernel of the row `name`.
#define WEFT_KERNEL(name)                                                           \
  void name([[maybe_unused]] Context& context, [[maybe_unused]] const Attrs& attrs, \
            [[maybe_unused]] Inputs inputs, [[maybe_unused]] Outputs outputs)
