#include <weft/launcher/ending.hpp>

#include <string.h>

#include <weft/core/base/check.hpp>

namespace weft::inline v0::launcher {

std::string signal_name(int signal) {
  const char* name = sigabbrev_np(signal);
  return name != nullptr ? fmt::format("SIG{}", name) : fmt::format("signal {}", signal);
}

std::string describe(int rank, pid_t pid, const Ending& ending) {
  if (ending.by_signal)
    return fmt::format("rank {} (pid {}) killed by {}", rank, pid, signal_name(ending.value));
  return fmt::format("rank {} (pid {}) exited with {}", rank, pid, ending.value);
}

std::string counted(int count, const char* word) {
  return fmt::format("{} {}{}", count, word, count == 1 ? "" : "s");
}

}  // namespace weft::inline v0::launcher
