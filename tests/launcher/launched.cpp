#include <weft/tests/launcher/launched.hpp>

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <regex>
#include <sstream>

namespace weft::test {

namespace {

using Clock = std::chrono::steady_clock;
constexpr int kPatience = 20'000;  // milliseconds

void take(int& fd, std::string& text) {
  char buffer[65536];
  const ssize_t got = ::read(fd, buffer, sizeof buffer);
  if (got > 0) {
    text.append(buffer, static_cast<size_t>(got));
  } else {
    ::close(fd);
    fd = -1;
  }
}

void close_one(int& fd) {
  if (fd >= 0) ::close(fd);
  fd = -1;
}

}  // namespace

Launched::Launched(const std::vector<std::string>& arguments,
                   const std::vector<std::string>& environment) {
  static std::atomic<int> count = 0;
  mark_ = "WEFT_TEST_MARK=" + std::to_string(::getpid()) + "." + std::to_string(++count);
  int in[2], out[2], err[2];
  REQUIRE(::pipe2(in, O_CLOEXEC) == 0);
  REQUIRE(::pipe2(out, O_CLOEXEC) == 0);
  REQUIRE(::pipe2(err, O_CLOEXEC) == 0);
  ::signal(SIGPIPE, SIG_IGN);
  pid_ = ::fork();
  REQUIRE(pid_ >= 0);
  if (pid_ == 0) {
    // Whatever runs the tests may have signals ignored or blocked; the launcher starts afresh.
    for (const int number : {SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGPIPE, SIGTSTP, SIGCHLD})
      ::signal(number, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::dup2(in[0], 0);
    ::dup2(out[1], 1);
    ::dup2(err[1], 2);
    ::putenv(mark_.data());
    for (const std::string& entry : environment) ::putenv(const_cast<char*>(entry.c_str()));
    std::vector<char*> argv = {const_cast<char*>(kLauncher.c_str())};
    for (const std::string& argument : arguments)
      argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    ::execv(kLauncher.c_str(), argv.data());
    ::_exit(127);
  }
  ::close(in[0]);
  ::close(out[1]);
  ::close(err[1]);
  in_ = in[1];
  out_fd_ = out[0];
  err_fd_ = err[0];
}

Launched::~Launched() {
  close_input();
  close_output();
  close_one(err_fd_);
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
}

void Launched::signal(int number) const { REQUIRE(::kill(pid_, number) == 0); }
void Launched::close_input() { close_one(in_); }
void Launched::close_output() { close_one(out_fd_); }

bool Launched::read_more(int milliseconds) {
  pollfd ends[2] = {{out_fd_, POLLIN, 0}, {err_fd_, POLLIN, 0}};
  if (::poll(ends, 2, milliseconds) <= 0) return false;
  if (ends[0].revents != 0) take(out_fd_, out_);
  if (ends[1].revents != 0) take(err_fd_, err_);
  return true;
}

void Launched::wait_for(const std::string& text, int times) {
  const auto deadline = Clock::now() + std::chrono::milliseconds(kPatience);
  while (count_of(out_, text) < times) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    const bool ended = out_fd_ < 0 && err_fd_ < 0;
    if (left <= 0 || ended || !read_more(static_cast<int>(left)))
      FAIL("no '" << text << "' on stdout, only:\n" << out_ << "\nstderr:\n" << err_);
  }
}

ProcessResult Launched::finish() {
  close_input();
  ProcessResult result;
  const auto deadline = Clock::now() + std::chrono::milliseconds(3 * kPatience);
  while ((out_fd_ >= 0 || err_fd_ >= 0) && !result.timed_out) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    if (left <= 0 || !read_more(static_cast<int>(left))) result.timed_out = true;
  }
  if (result.timed_out) ::kill(pid_, SIGKILL);
  int status = 0;
  ::waitpid(pid_, &status, 0);
  pid_ = -1;
  if (WIFEXITED(status)) result.exit_code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) result.signal = WTERMSIG(status);
  result.out = out_;
  result.err = err_;
  CHECK_FALSE_MESSAGE(result.timed_out, "the launcher did not end: " << out_ << err_);
  if (result.signal == 0) CHECK_MESSAGE(left_behind().empty(), "processes are left behind");
  return result;
}

std::vector<pid_t> Launched::pids(const std::string& word) const {
  std::vector<pid_t> found;
  const std::regex pattern(word + " ([0-9]+)");
  for (std::sregex_iterator it(out_.begin(), out_.end(), pattern), end; it != end; ++it)
    found.push_back(static_cast<pid_t>(std::stol((*it)[1])));
  return found;
}

std::vector<pid_t> Launched::left_behind() const {
  std::vector<pid_t> found;
  DIR* folder = ::opendir("/proc");
  while (const dirent* entry = ::readdir(folder)) {
    if (entry->d_name[0] < '1' || entry->d_name[0] > '9') continue;
    const std::string text = process_file(static_cast<pid_t>(std::atol(entry->d_name)), "environ");
    if (("\0" + text).find(mark_ + '\0') != std::string::npos)
      found.push_back(static_cast<pid_t>(std::atol(entry->d_name)));
  }
  ::closedir(folder);
  return found;
}

ProcessResult launch(const std::vector<std::string>& arguments,
                     const std::vector<std::string>& environment) {
  return Launched(arguments, environment).finish();
}

std::vector<std::string> own_lines(const std::string& text) {
  std::vector<std::string> own;
  std::istringstream lines(text);
  static const std::regex relayed(R"(^\[[0-9]+\] .*)");
  for (std::string line; std::getline(lines, line);)
    if (!std::regex_match(line, relayed)) own.push_back(line);
  return own;
}

// A stream would throw where a read fails, as it does once the process has gone.
std::string process_file(pid_t pid, const std::string& name) {
  const int file =
      ::open(("/proc/" + std::to_string(pid) + "/" + name).c_str(), O_RDONLY | O_CLOEXEC);
  std::string text;
  char buffer[65536];
  for (ssize_t got = 0; file >= 0 && (got = ::read(file, buffer, sizeof buffer)) > 0;)
    text.append(buffer, static_cast<size_t>(got));
  if (file >= 0) ::close(file);
  return text;
}

int count_of(const std::string& text, const std::string& part) {
  int count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

bool stops_soon(pid_t pid) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (std::chrono::steady_clock::now() < deadline) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
    std::string line;
    std::getline(file, line);
    if (line.find(") T ") != std::string::npos) return true;
    ::sched_yield();
  }
  return false;
}

bool ends_soon(pid_t pid) {
  const int handle = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
  if (handle < 0) return true;  // gone already
  pollfd entry{handle, POLLIN, 0};
  const bool ended = ::poll(&entry, 1, 10'000) == 1;
  ::close(handle);
  return ended;
}

}  // namespace weft::test
