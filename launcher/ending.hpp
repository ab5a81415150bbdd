// How a rank ended, as text and as exit code.
#pragma once

#include <sys/types.h>

#include <string>

namespace weft::inline v0::launcher {

struct Ending {
  bool by_signal = false;
  int value = 0;  ///< the exit code, or the signal

  bool ok() const { return !by_signal && value == 0; }
  int exit_code() const { return by_signal ? 128 + value : value; }
};

/// "SIGKILL", or "signal 40" where it has no name.
std::string signal_name(int signal);

/// "rank 2 (pid 123) killed by SIGKILL", "rank 2 (pid 123) exited with 7"
std::string describe(int rank, pid_t pid, const Ending& ending);

/// "1 rank", "4 ranks"
std::string counted(int count, const char* word);

}  // namespace weft::inline v0::launcher
