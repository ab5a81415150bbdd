#include <weft/launcher/orphans.hpp>

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string>

#include <weft/dist/store/clock.hpp>
#include <weft/dist/store/socket.hpp>

namespace weft::inline v0::launcher {

namespace {

using dist::detail::deadline_after;
using dist::detail::Fd;
using dist::detail::TimePoint;

struct CloseFolder {
  void operator()(DIR* folder) const { ::closedir(folder); }
};

/// The parent of `pid` by /proc/PID/stat, or 0 where it is gone.
pid_t parent_of(const char* pid) {
  const Fd file(::open(("/proc/" + std::string(pid) + "/stat").c_str(), O_RDONLY | O_CLOEXEC));
  char text[512];
  const ssize_t size = file ? ::read(file.get(), text, sizeof text - 1) : 0;
  if (size <= 0) return 0;
  text[size] = '\0';
  // "PID (NAME) STATE PARENT ...", where the name may hold anything, parentheses too.
  const std::string_view line(text);
  const size_t name_end = line.rfind(')');
  if (name_end == std::string_view::npos || name_end + 4 >= line.size()) return 0;
  return static_cast<pid_t>(std::strtol(text + name_end + 4, nullptr, 10));
}

void kill_and_reap(pid_t pid, TimePoint deadline) {
  // A child that has not been reaped keeps its number, so the signal cannot hit another process.
  ::kill(pid, SIGKILL);
  const Fd handle(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (handle && !dist::detail::wait_ready(handle.get(), POLLIN, deadline)) return;
  ::waitpid(pid, nullptr, WNOHANG);
}

}  // namespace

void become_subreaper() { ::prctl(PR_SET_CHILD_SUBREAPER, 1); }

bool has_children() {
  siginfo_t info{};
  return ::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

std::vector<pid_t> children() {
  std::vector<pid_t> found;
  const std::unique_ptr<DIR, CloseFolder> folder(::opendir("/proc"));
  if (!folder) return found;
  const pid_t self = ::getpid();
  while (const dirent* entry = ::readdir(folder.get()))
    if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9' && parent_of(entry->d_name) == self)
      found.push_back(static_cast<pid_t>(std::strtol(entry->d_name, nullptr, 10)));
  return found;
}

std::vector<pid_t> kill_children(const std::vector<pid_t>& spared, double seconds) {
  const TimePoint deadline = deadline_after(seconds);
  for (;;) {
    if (!has_children()) return {};
    std::vector<pid_t> left;
    for (const pid_t pid : children())
      if (std::find(spared.begin(), spared.end(), pid) == spared.end()) left.push_back(pid);
    if (left.empty() || dist::detail::Clock::now() >= deadline) return left;
    for (const pid_t pid : left) kill_and_reap(pid, deadline);
  }
}

}  // namespace weft::inline v0::launcher
