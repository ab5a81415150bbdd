// Finding the program before anything is started.
#pragma once

#include <string>

namespace weft::inline v0::launcher {

/// The path to execute for `name`: itself where it has a slash, else the first match on PATH.
/// Throws LaunchError with 127 where there is none and 126 where it may not be executed.
std::string find_program(const std::string& name);

/// Why `path` could not be executed after all, and the exit code for it.
struct ExecFailure {
  int code;
  std::string text;
};
ExecFailure explain_exec_failure(const std::string& path, int error);

}  // namespace weft::inline v0::launcher
