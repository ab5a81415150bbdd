#include <weft/dist/comm/forks.hpp>

#include <pthread.h>
#include <unistd.h>

namespace weft::inline v0::dist::detail {

uint64_t fork_depth = 0;

ProcessMark::ProcessMark() noexcept : pid_(getpid()) {
  // Without memory for the handler no child is told apart.
  [[maybe_unused]] static const int failed = pthread_atfork(nullptr, nullptr, [] { ++fork_depth; });
  depth_ = fork_depth;
}

}  // namespace weft::inline v0::dist::detail
