// Telling a child by fork from the process that joined a group.
#pragma once

#include <sys/types.h>

#include <cstdint>

namespace weft::inline v0::dist::detail {

/// How many forks lie between the process that made the first mark and this one. A child begins
/// with one thread, so nothing reads it while it is counted up; nobody asks the kernel.
extern uint64_t fork_depth;

/// The process that makes it.
class ProcessMark {
 public:
  ProcessMark() noexcept;
  /// Whether the caller is that process, and not a child by fork of it.
  bool here() const noexcept { return depth_ == fork_depth; }
  pid_t pid() const noexcept { return pid_; }

 private:
  uint64_t depth_;
  pid_t pid_;
};

}  // namespace weft::inline v0::dist::detail
