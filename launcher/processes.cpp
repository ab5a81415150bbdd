#include <weft/launcher/processes.hpp>

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
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

/// What is wanted of /proc/PID/stat.
struct Stat {
  pid_t parent = 0;
  unsigned flags = 0;
};

std::optional<Stat> read_stat(const std::string& pid) {
  const Fd file(::open(("/proc/" + pid + "/stat").c_str(), O_RDONLY | O_CLOEXEC));
  char text[512];
  const ssize_t size = file ? ::read(file.get(), text, sizeof text - 1) : 0;
  if (size <= 0) return std::nullopt;
  text[size] = '\0';
  // "PID (NAME) STATE PARENT GROUP SESSION TERMINAL FOREGROUND FLAGS ...", where the name may hold
  // anything, parentheses too.
  const char* name_end = std::strrchr(text, ')');
  Stat stat;
  if (name_end == nullptr ||
      std::sscanf(name_end + 1, " %*c %d %*d %*d %*d %*d %u", &stat.parent, &stat.flags) != 2)
    return std::nullopt;
  return stat;
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
  while (const dirent* entry = ::readdir(folder.get())) {
    if (entry->d_name[0] < '1' || entry->d_name[0] > '9') continue;
    const auto stat = read_stat(entry->d_name);
    if (stat && stat->parent == self)
      found.push_back(static_cast<pid_t>(std::strtol(entry->d_name, nullptr, 10)));
  }
  return found;
}

bool is_exiting(pid_t pid) {
  constexpr unsigned kExiting = 0x4;  // PF_EXITING of the kernel
  // Without /proc nothing is known of anybody, this process included.
  const auto stat = read_stat(std::to_string(pid));
  if (!stat) return read_stat("self").has_value();
  return (stat->flags & kExiting) != 0;
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
