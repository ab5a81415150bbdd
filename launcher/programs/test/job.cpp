#include <weft/launcher/programs/test/job.hpp>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <weft/core/base/check.hpp>

namespace weft::inline v0::self_test {

namespace {

using Clock = std::chrono::steady_clock;
constexpr int kPatience = 15'000;  // milliseconds for the launcher to end after SIGTERM

void check(bool done, const char* what) {
  WEFT_CHECK(Error, done, "launcher test: {}: {}", what, std::strerror(errno));
}

struct Pipe {
  Fd read, write;
  Pipe() {
    int ends[2];
    check(::pipe2(ends, O_CLOEXEC) == 0, "pipe");
    read = Fd(ends[0]);
    write = Fd(ends[1]);
  }
};

}  // namespace

LauncherJob::LauncherJob(const std::vector<std::string>& argv, int signals) : signals_(signals) {
  std::vector<char*> pointers;
  for (const std::string& argument : argv) pointers.push_back(const_cast<char*>(argument.c_str()));
  pointers.push_back(nullptr);
  Pipe out, err;
  const Fd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  check(static_cast<bool>(null), "/dev/null");
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  check(pid_ >= 0, "fork");
  if (pid_ == 0) {
    // A group of its own: Ctrl-C reaches this program, which then ends the launcher.
    ::setpgid(0, 0);
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (::getppid() != parent) ::_exit(126);
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::dup2(null.get(), 0);
    ::dup2(out.write.get(), 1);
    ::dup2(err.write.get(), 2);
    ::execv(pointers[0], pointers.data());
    ::_exit(127);
  }
  out_.fd = std::move(out.read);
  err_.fd = std::move(err.read);
}

LauncherJob::~LauncherJob() { stop(); }

bool LauncherJob::take(Stream& stream) {
  char bytes[16384];
  const ssize_t got = ::read(stream.fd.get(), bytes, sizeof bytes);
  if (got < 0 && errno == EINTR) return true;
  if (got <= 0) {
    stream.fd.reset();
    return false;
  }
  stream.buffer.append(bytes, static_cast<size_t>(got));
  return true;
}

std::optional<std::string> LauncherJob::line_of(Stream& stream) {
  size_t end = stream.buffer.find('\n');
  if (end == std::string::npos) {
    if (stream.fd || stream.buffer.empty()) return std::nullopt;
    end = stream.buffer.size();  // the last line, without its end
  }
  std::string line = stream.buffer.substr(0, end);
  stream.buffer.erase(0, std::min(end + 1, stream.buffer.size()));
  return line;
}

std::optional<LauncherJob::Line> LauncherJob::next(Clock::time_point deadline) {
  for (;;) {
    if (auto line = line_of(out_)) return Line{false, *std::move(line)};
    if (auto line = line_of(err_)) return Line{true, *std::move(line)};
    if (ended()) return std::nullopt;
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    if (left <= 0) return std::nullopt;
    pollfd ends[3] = {
        {out_.fd.get(), POLLIN, 0}, {err_.fd.get(), POLLIN, 0}, {signals_, POLLIN, 0}};
    // One millisecond more than is left, which was rounded down.
    const int ready = ::poll(ends, 3, static_cast<int>(std::min<int64_t>(left + 1, 1 << 30)));
    if (ready < 0 && errno != EINTR) check(false, "poll");
    if (ready <= 0) continue;
    if (ends[2].revents != 0) {
      signalfd_siginfo info{};
      if (::read(signals_, &info, sizeof info) == sizeof info) {
        signal_ = static_cast<int>(info.ssi_signo);
        return std::nullopt;
      }
    }
    if (ends[0].revents != 0) take(out_);
    if (ends[1].revents != 0) take(err_);
  }
}

int LauncherJob::wait() {
  if (pid_ > 0) {
    while (::waitpid(pid_, &status_, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
  }
  return WIFSIGNALED(status_) ? 128 + WTERMSIG(status_) : WEXITSTATUS(status_);
}

void LauncherJob::stop() {
  if (pid_ < 0) return;
  ::kill(pid_, SIGTERM);
  const Fd handle(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
  pollfd entry{handle.get(), POLLIN, 0};
  // What the ranks still say is read, so that the launcher is not held up.
  const auto deadline = Clock::now() + std::chrono::milliseconds(kPatience);
  while (Clock::now() < deadline && (out_.fd || err_.fd)) {
    pollfd ends[2] = {{out_.fd.get(), POLLIN, 0}, {err_.fd.get(), POLLIN, 0}};
    if (::poll(ends, 2, 100) <= 0) continue;
    if (ends[0].revents != 0) take(out_);
    if (ends[1].revents != 0) take(err_);
  }
  const auto left =
      std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
  if (!handle || ::poll(&entry, 1, static_cast<int>(std::max<int64_t>(left, 0))) != 1)
    ::kill(pid_, SIGKILL);
  wait();
}

}  // namespace weft::inline v0::self_test
