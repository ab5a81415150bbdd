// Threads of the library's own take no signals.
#pragma once

#include <pthread.h>
#include <signal.h>

namespace weft::inline v0::dist::detail {

/// While it lives, threads that this one starts begin with all signals blocked: signals, and the
/// handlers of SIGALRM and the like, belong to the threads of the program.
class SignalGuard {
 public:
  SignalGuard() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalGuard() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalGuard(const SignalGuard&) = delete;
  SignalGuard& operator=(const SignalGuard&) = delete;

 private:
  sigset_t before_{};
};

}  // namespace weft::inline v0::dist::detail
