// The ranks' crash records, as the launcher makes and reads them. See Note [Crash record].
#pragma once

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <weft/core/base/crash_record.hpp>
#include <weft/dist/store/socket.hpp>

namespace weft::inline v0::launcher {

class CrashRecords {
 public:
  /// Memory for `ranks` slots. Where the system refuses it there are no records, and the job runs.
  explicit CrashRecords(int ranks);

  /// What WEFT_CRASH_FD is to be; -1 where there are none.
  int fd() const noexcept { return file_.get(); }

  /// What the rank with this number on this host has left; nothing where it left nothing.
  std::unique_ptr<const weft::detail::CrashSlot> read(int local_rank) const;

 private:
  dist::detail::Fd file_;
};

/// What is known about the end of process `pid`, line by line, at most some 20: the signal's cause
/// and the stack, the collective, the exception. Nothing in the slot is trusted.
std::vector<std::string> crash_lines(const weft::detail::CrashSlot& slot, pid_t pid);

/// "in all_reduce #12 (f32 [2, 3], sum) of group 'world'; last completed #11", one for each group
/// that was in a collective, else the last one that was completed; empty where there was none.
std::vector<std::string> collective_lines(const weft::detail::CrashSlot& slot);

/// Whether the rank's own end may come from the end of a group: which process it lost (-1: none or
/// not known), and the text of the error that it was given.
struct GroupEnd {
  pid_t lost = -1;
  std::string text;
};
std::optional<GroupEnd> group_end(const weft::detail::CrashSlot& slot);

}  // namespace weft::inline v0::launcher
