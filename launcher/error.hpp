// How the launcher gives up before anything runs: a text and an exit code.
#pragma once

#include <string>

#include <weft/core/base/error.hpp>

namespace weft::inline v0::launcher {

inline constexpr int kExitLost = 1;             ///< a host or the way to it was lost, or never came
inline constexpr int kExitUsage = 2;            ///< usage or configuration
inline constexpr int kExitTimeLimit = 124;      ///< as timeout(1)
inline constexpr int kExitNotExecutable = 126;  ///< as a shell
inline constexpr int kExitNotFound = 127;

/// Whether an exit code says that the program cannot be started, the next time no more than now.
inline bool never_starts(int code) { return code == kExitNotExecutable || code == kExitNotFound; }

class LaunchError : public Error {
 public:
  LaunchError(int code, const std::string& text) : Error(text), code_(code) {}
  int code() const noexcept { return code_; }

 private:
  int code_;
};

/// An error at a place of a configuration file: its text is `FILE:LINE:COLUMN: …`.
class ConfigError : public LaunchError {
 public:
  explicit ConfigError(const std::string& text) : LaunchError(kExitUsage, text) {}
};

}  // namespace weft::inline v0::launcher
