// How this library was built, and what it chose on this machine.
#pragma once

#include <weft/core/base/api.hpp>

namespace weft::inline v0 {

/// The version, as "0.1.0".
WEFT_API const char* version();

/// Lines "key: value": version, compiler, build type and options, CPU levels that are built in and
/// the one that is used here (or why none can be). Plain text, so that a program that loads the
/// library at run time, such as `launcher env`, can ask for it.
WEFT_API const char* build_info();

}  // namespace weft::inline v0
