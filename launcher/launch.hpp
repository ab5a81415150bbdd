// `launcher launch`: from resolved options to the job's end.
#pragma once

#include <string>
#include <vector>

#include <weft/launcher/options.hpp>

namespace weft::inline v0::launcher {

/// Where and under what name the ranks of a job find its store.
struct JobIdentity {
  std::string id = {};
  std::string token = {};
  std::string host = {};
  int port = 0;
};

/// The environment of `rank` out of `ranks`: that of the launcher (`base`) with the job's
/// variables. `threads` is WEFT_NUM_THREADS where `base` does not set it.
std::vector<std::string> rank_environment(const std::vector<std::string>& base,
                                          const LaunchOptions& options, const JobIdentity& job,
                                          int rank, int threads);

/// Starts the ranks and returns the launcher's exit code when all have ended.
/// Throws LaunchError where nothing could be started.
int launch(const LaunchOptions& options);

}  // namespace weft::inline v0::launcher
