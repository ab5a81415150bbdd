// What ends the job's processes when the launcher itself is killed.
#pragma once

#include <sys/types.h>

#include <string>

#include <weft/dist/store/socket.hpp>

namespace weft::inline v0::launcher {

/// Note [The launcher's own death]
/// SIGKILL leaves the launcher no say. The kernel then kills the ranks (PR_SET_PDEATHSIG), but not
/// what the ranks have started: that signal is not inherited. So a small process waits beside the
/// launcher, in a process group of its own, on a pipe whose other end only the launcher has; when
/// it closes without a farewell, it kills every process whose environment names the launcher. A
/// process that has cleared its environment, or belongs to another user, escapes it, as does
/// everything where there is no /proc. The guardian has no memory of its own to speak of, no
/// descriptor but the pipe, and costs the launcher one fork.
class Guardian {
 public:
  /// Watches over the processes that have WEFT_LAUNCHER_ID=`launcher_id`. Without an id, or where
  /// the system refuses a process, there is no guardian.
  explicit Guardian(const std::string& launcher_id);
  ~Guardian();  ///< sends it away, and waits until it is gone
  Guardian(const Guardian&) = delete;
  Guardian& operator=(const Guardian&) = delete;

  void dismiss();
  pid_t pid() const noexcept { return pid_; }  ///< -1: there is none

 private:
  dist::detail::Fd pipe_;
  pid_t pid_ = -1;
};

}  // namespace weft::inline v0::launcher
