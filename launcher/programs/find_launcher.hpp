// Where the launcher lies, seen from a command of its own.
#pragma once

#include <string>

namespace weft::inline v0::launcher {

/// PREFIX/bin/launcher beside PREFIX/libexec/weft, or launcher/launcher in a build tree. Throws
/// Error where there is neither.
std::string find_launcher();

}  // namespace weft::inline v0::launcher
