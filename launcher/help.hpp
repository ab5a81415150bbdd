#pragma once

namespace weft::inline v0::launcher {

/// The text of `launcher --help`.
const char* launch_help();

}  // namespace weft::inline v0::launcher
