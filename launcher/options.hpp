// What is to be launched, and how: flag over environment over default.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace weft::inline v0::launcher {

/// The flags as they were given.
struct LaunchFlags {
  std::optional<std::string> ranks = {};  ///< -n, --nproc_per_node
  std::optional<std::string> num_processes = {};
  std::optional<std::string> time_limit = {};
  std::optional<std::string> grace = {};
  std::optional<std::string> collective_timeout = {};
  std::optional<std::string> join_timeout = {};
  std::vector<std::string> command = {};  ///< the program and its arguments
};

/// The same, resolved.
struct LaunchOptions {
  int ranks = 1;
  std::optional<double> time_limit = {};  ///< seconds; none: no limit
  double grace = 10;                      ///< seconds between asking ranks to end and killing them
  std::vector<std::string> environment = {};  ///< "NAME=value", for the ranks, from flags
  std::vector<std::string> command = {};
};

/// Ranks that one launcher starts at most, so that a slip of the finger does not fell the host.
inline constexpr int kMaxRanks = 4096;

/// Throws LaunchError (exit code 2), naming flag or variable, value and remedy.
LaunchOptions resolve(const LaunchFlags& flags);

/// The flags that launch takes, without their dashes, in the spelling with `_`.
const std::vector<std::string>& launch_flag_names();

}  // namespace weft::inline v0::launcher
