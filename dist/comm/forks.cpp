#include <weft/dist/comm/forks.hpp>

#include <pthread.h>
#include <unistd.h>

namespace weft::inline v0::dist::detail {

namespace {

// A child begins with one thread, so nothing reads it while it is counted up.
uint64_t depth = 0;

}  // namespace

uint64_t fork_depth() noexcept {
  static const bool counted = pthread_atfork(nullptr, nullptr, [] { ++depth; }) == 0;
  return counted ? depth : 0;  // without memory for the handler no child is told apart
}

ProcessMark::ProcessMark() noexcept : depth_(fork_depth()), pid_(getpid()) {}

}  // namespace weft::inline v0::dist::detail
