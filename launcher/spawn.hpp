// Starting one rank.
#pragma once

#include <signal.h>
#include <sys/resource.h>
#include <sys/types.h>

#include <string>
#include <vector>

namespace weft::inline v0::launcher {

/// What a rank that could not be executed tells the launcher, through a pipe.
struct ExecReport {
  int rank;
  int error;
};

/// What all ranks have in common, as it was when the launcher itself was started.
struct SpawnContext {
  std::string path;
  std::vector<std::string> argv;
  sigset_t signal_mask = {};
  struct sigaction pipe_action = {};  ///< of SIGPIPE
  rlimit open_files = {};
  int report_fd = -1;  ///< for an ExecReport
  int crash_fd = -1;   ///< WEFT_CRASH_FD, which the ranks inherit; -1: none
};

struct Streams {
  int in = 0, out = 1, err = 2;
};

/// Forks and executes the program: in a process group of its own, killed when the launcher dies.
/// `environment` is the whole environment ("NAME=value"), `cpus` what it is bound to (empty:
/// nothing). Returns the process id, or -1 with errno.
pid_t spawn(const SpawnContext& context, int rank, const std::vector<std::string>& environment,
            const Streams& streams, const std::vector<int>& cpus = {});

}  // namespace weft::inline v0::launcher
