// Telling a child by fork from the process that joined a group.
#pragma once

#include <sys/types.h>

#include <cstdint>

namespace weft::inline v0::dist::detail {

/// How many forks lie between the process that was executed and this one, without asking the
/// kernel; counted from the first call on.
uint64_t fork_depth() noexcept;

/// The process that makes it.
class ProcessMark {
 public:
  ProcessMark() noexcept;
  /// Whether the caller is that process, and not a child by fork of it.
  bool here() const noexcept { return depth_ == fork_depth(); }
  pid_t pid() const noexcept { return pid_; }

 private:
  uint64_t depth_;
  pid_t pid_;
};

}  // namespace weft::inline v0::dist::detail
