// Whether the kernel's OOM killer has been at work.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace weft::inline v0::launcher {

/// Counts of processes killed for want of memory, of this process's memory control group (version
/// 2, else 1) and of the host. The ranks are in that group, unless they leave it.
class OomWatch {
 public:
  /// Notes the counts as they are now. `root` is put before /proc and /sys, for tests.
  explicit OomWatch(std::string root = "");

  /// Evidence that the OOM killer has killed since this was last asked, as text; empty where there
  /// is none. "the kernel's OOM killer: oom_kill of memory cgroup /job went from 0 to 1, the limit
  /// is 512.0 MiB"
  std::string news();

 private:
  std::optional<uint64_t> count_of(const std::string& file) const;
  std::string limit() const;

  std::string root_;
  std::string group_, folder_;       // of the control group: its name, and its folder
  std::string events_, limit_file_;  // the files of that folder that have the count and the limit
  std::optional<uint64_t> in_group_, on_host_;
};

}  // namespace weft::inline v0::launcher
