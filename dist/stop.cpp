#include <weft/dist/stop.hpp>

#include <signal.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <mutex>

#include <weft/core/base/check.hpp>
#include <weft/core/ops.hpp>

namespace weft::inline v0::dist {

namespace {

constexpr int kSignals[] = {SIGTERM, SIGUSR1, SIGUSR2};

// A handler finds nothing but what is static. Written before the handlers are in place, except for
// the flags, which are lock-free.
struct Asked {
  struct sigaction earlier = {};
  std::atomic<bool> flag{false};
};
Asked asked_by[std::size(kSignals)];
static_assert(std::atomic<bool>::is_always_lock_free);

void on_signal(int signal, siginfo_t* info, void* context) {
  const int error = errno;
  for (size_t i = 0; i < std::size(kSignals); ++i) {
    if (kSignals[i] != signal) continue;
    Asked& asked = asked_by[i];
    const bool again = asked.flag.exchange(true);
    if ((asked.earlier.sa_flags & SA_SIGINFO) != 0) {
      asked.earlier.sa_sigaction(signal, info, context);
    } else if (asked.earlier.sa_handler != SIG_DFL && asked.earlier.sa_handler != SIG_IGN) {
      asked.earlier.sa_handler(signal);
    } else if (again) {
      sigaction(signal, &asked.earlier, nullptr);
      raise(signal);  // once this handler has returned
    }
  }
  errno = error;
}

void install_handlers() {
  static std::once_flag once;
  std::call_once(once, [] {
    for (size_t i = 0; i < std::size(kSignals); ++i) {
      struct sigaction& earlier = asked_by[i].earlier;
      bool done = sigaction(kSignals[i], nullptr, &earlier) == 0;
      struct sigaction ours = {};
      ours.sa_sigaction = on_signal;
      ours.sa_flags = SA_SIGINFO | SA_RESTART;
      sigemptyset(&ours.sa_mask);
      done = done && sigaction(kSignals[i], &ours, nullptr) == 0;
      WEFT_CHECK(CommError, done, "stop_requested: no handler for signal {}: {}", kSignals[i],
                 std::strerror(errno));
    }
  });
}

}  // namespace

bool stop_requested(const Group& group) {
  install_handlers();
  bool mine = false;
  for (const Asked& asked : asked_by) mine = mine || asked.flag.load();
  const Tensor any = full({1}, mine ? 1 : 0, {.dtype = DType::u8});
  group.all_reduce(any, ReduceOp::max);
  return any.item<int>() != 0;
}

}  // namespace weft::inline v0::dist
