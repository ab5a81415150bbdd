// `launcher launch`: from resolved options to the job's end.
#pragma once

#include <string>
#include <vector>

#include <weft/launcher/job.hpp>
#include <weft/launcher/options.hpp>
#include <weft/launcher/spawn.hpp>

namespace weft::inline v0::launcher {

/// Where and under what name the ranks of one attempt at a job find its store, and what part of it
/// is on this host.
struct JobIdentity {
  std::string id = {};
  std::string token = {};
  std::string host = {};
  int port = 0;
  std::string launcher_id = {};
  int attempt = 0;
  int node_rank = 0, nodes = 1;
  int first_rank = 0;   ///< of this host
  int total_ranks = 0;  ///< of all hosts; 0: those of this one
};

/// The environment of the rank `local_rank` of this host: that of the launcher (`base`) with the
/// job's variables. `threads` is WEFT_NUM_THREADS where `base` does not set it.
std::vector<std::string> rank_environment(const std::vector<std::string>& base,
                                          const LaunchOptions& options, const JobIdentity& job,
                                          int local_rank, int threads);

/// What all attempts at a job on this host have in common.
struct LaunchSetup {
  SpawnContext context = {};
  std::vector<std::string> environment = {};  ///< the launcher's own
};

/// Finds the program and readies this process (signals, limits). Throws LaunchError.
LaunchSetup prepare_launch(const LaunchOptions& options);

/// One attempt at the ranks of this host; what it is to tell is left to the caller.
JobOptions attempt_options(const LaunchOptions& options, const LaunchSetup& setup,
                           const JobIdentity& job);

/// A fresh random name or secret.
std::string random_id();
std::string random_token();

/// Starts the ranks and returns the launcher's exit code when all have ended.
/// Throws LaunchError where nothing could be started.
int launch(const LaunchOptions& options);

}  // namespace weft::inline v0::launcher
