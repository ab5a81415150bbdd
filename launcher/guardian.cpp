#include <weft/launcher/guardian.hpp>

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>

namespace weft::inline v0::launcher {

namespace {

constexpr int kRounds = 200;        // of looking for processes that are still there
constexpr long kPause = 5'000'000;  // nanoseconds between two of them
constexpr size_t kMaxEnvironment = 64 * 1024;

// From here on the process is a fork of one with threads: system calls and plain memory only.

struct Entry {  // what getdents64 gives
  uint64_t inode;
  int64_t offset;
  uint16_t length;
  uint8_t type;
  char name[1];
};

/// Whether the environment of process `pid` has `mark`, a whole "NAME=value".
bool has_mark(int proc, const char* pid, std::string_view mark) {
  char path[32];
  const size_t length = ::strnlen(pid, 16);
  std::memcpy(path, pid, length);
  std::memcpy(path + length, "/environ", 9);
  const int file = ::openat(proc, path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return false;
  static char text[kMaxEnvironment];
  size_t size = 1;
  text[0] = '\0';
  bool found = false;
  for (ssize_t got = 0; !found && (got = ::read(file, text + size, sizeof text - size)) > 0;) {
    size += static_cast<size_t>(got);
    // The mark between two ends; the last bytes wait for the next piece.
    const std::string_view all(text, size);
    for (size_t at = 0; !found && (at = all.find(mark, at)) != std::string_view::npos; ++at)
      found = all[at - 1] == '\0' && (at + mark.size() == size || all[at + mark.size()] == '\0');
    if (size > sizeof text / 2) {
      const size_t kept = mark.size() + 2;
      std::memmove(text, text + size - kept, kept);
      size = kept;
    }
  }
  ::close(file);
  return found;
}

/// Kills the processes that have the mark; false where there were none.
bool kill_marked(std::string_view mark) {
  const int proc = ::open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (proc < 0) return false;
  const pid_t self = ::getpid();
  bool any = false;
  alignas(Entry) char buffer[8192];
  for (long got = 0; (got = ::syscall(SYS_getdents64, proc, buffer, sizeof buffer)) > 0;) {
    for (long at = 0; at < got;) {
      const auto* entry = reinterpret_cast<const Entry*>(buffer + at);
      at += entry->length;
      pid_t pid = 0;
      for (const char* c = entry->name; *c >= '0' && *c <= '9'; ++c) pid = pid * 10 + (*c - '0');
      if (pid == 0 || pid == self) continue;
      // The handle before the look: the number may be another process's the moment after.
      const int handle = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
      if (handle < 0) continue;
      if (has_mark(proc, entry->name, mark)) {
        any = true;
        ::syscall(SYS_pidfd_send_signal, handle, SIGKILL, nullptr, 0);
      }
      ::close(handle);
    }
  }
  ::close(proc);
  return any;
}

[[noreturn]] void guard(int pipe, std::string_view mark) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_NAME, "weft guardian");
  // Nobody is to wait for the end of an output that the guardian holds.
  if (pipe != 0) ::dup2(pipe, 0);
  if (::syscall(SYS_close_range, 1u, ~0u, 0u) != 0)  // Linux 5.9
    for (int fd = 1; fd < 4096; ++fd) ::close(fd);
  sigset_t all;
  sigfillset(&all);
  ::sigprocmask(SIG_SETMASK, &all, nullptr);
  char farewell = 0;
  ssize_t got = 0;
  while ((got = ::read(0, &farewell, 1)) < 0 && errno == EINTR) continue;
  if (got != 0) ::_exit(0);
  const timespec moment{0, kPause};
  // What is killed may have started another process a moment before.
  for (int round = 0, quiet = 0; round < kRounds && quiet < 2; ++round) {
    quiet = kill_marked(mark) ? 0 : quiet + 1;
    ::nanosleep(&moment, nullptr);
  }
  ::_exit(0);
}

}  // namespace

Guardian::Guardian(const std::string& launcher_id) {
  if (launcher_id.empty()) return;
  const std::string mark = "WEFT_LAUNCHER_ID=" + launcher_id;
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return;
  dist::detail::Fd read_end(ends[0]), write_end(ends[1]);
  pid_ = ::fork();
  if (pid_ == 0) guard(read_end.get(), mark);
  if (pid_ < 0) return;
  ::setpgid(pid_, pid_);
  pipe_ = std::move(write_end);
}

void Guardian::dismiss() {
  if (pid_ < 0) return;
  if (::write(pipe_.get(), "q", 1) != 1) ::kill(pid_, SIGKILL);
  pipe_.reset();
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) continue;
  pid_ = -1;
}

Guardian::~Guardian() { dismiss(); }

}  // namespace weft::inline v0::launcher
