#include <weft/tests/support/process.hpp>

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <sstream>
#include <system_error>

namespace weft::test {

namespace {

using Clock = std::chrono::steady_clock;

class Pipe {
 public:
  Pipe() {
    std::array<int, 2> ends{};
    if (pipe2(ends.data(), O_CLOEXEC) != 0)
      throw std::system_error(errno, std::generic_category(), "pipe2");
    read_ = ends[0];
    write_ = ends[1];
  }
  ~Pipe() {
    close_read();
    close_write();
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;

  int read_end() const { return read_; }
  int write_end() const { return write_; }
  void close_read() { close_end(read_); }
  void close_write() { close_end(write_); }

 private:
  static void close_end(int& end) {
    if (end >= 0) close(end);
    end = -1;
  }
  int read_ = -1;
  int write_ = -1;
};

// Between fork and exec; only this thread exists here.
[[noreturn]] void become(const std::vector<std::string>& argv, const ProcessOptions& options,
                         const Pipe& in, const Pipe& out, const Pipe& err) {
  setpgid(0, 0);
  if (dup2(in.read_end(), 0) < 0 || dup2(out.write_end(), 1) < 0 || dup2(err.write_end(), 2) < 0)
    _exit(127);
  if (!options.folder.empty() && chdir(options.folder.c_str()) != 0) _exit(127);
  for (const std::string& entry : options.env) {
    const size_t equals = entry.find('=');
    if (equals == std::string::npos)
      unsetenv(entry.c_str());
    else
      setenv(entry.substr(0, equals).c_str(), entry.substr(equals + 1).c_str(), 1);
  }
  std::vector<char*> pointers;
  for (const std::string& argument : argv) pointers.push_back(const_cast<char*>(argument.c_str()));
  pointers.push_back(nullptr);
  execvp(pointers[0], pointers.data());
  _exit(127);
}

// Reads what is there; closes the end at end of file.
void drain(Pipe& pipe, std::string& text) {
  std::array<char, 65536> block;
  const ssize_t count = read(pipe.read_end(), block.data(), block.size());
  if (count > 0)
    text.append(block.data(), static_cast<size_t>(count));
  else if (count == 0 || errno != EINTR)
    pipe.close_read();
}

// Writes some input; closes the end when all is written or the program no longer reads.
void feed(Pipe& pipe, const std::string& input, size_t& written) {
  const ssize_t count = write(pipe.write_end(), input.data() + written, input.size() - written);
  if (count > 0) written += static_cast<size_t>(count);
  if (written == input.size() || (count < 0 && errno != EAGAIN && errno != EINTR))
    pipe.close_write();
}

// Moves the streams until the program has closed both of its outputs or the limit is reached.
// Returns whether the limit was reached.
bool relay(Pipe& in, Pipe& out, Pipe& err, const ProcessOptions& options, ProcessResult& result) {
  const auto deadline = Clock::now() + options.limit;
  size_t written = 0;
  if (options.input.empty()) in.close_write();
  while (out.read_end() >= 0 || err.read_end() >= 0) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
    if (left.count() <= 0) return true;
    std::array<pollfd, 3> waits{
        {{out.read_end(), POLLIN, 0}, {err.read_end(), POLLIN, 0}, {in.write_end(), POLLOUT, 0}}};
    if (poll(waits.data(), waits.size(), static_cast<int>(left.count())) < 0) continue;
    if (waits[0].revents != 0) drain(out, result.out);
    if (waits[1].revents != 0) drain(err, result.err);
    if (waits[2].revents != 0) feed(in, options.input, written);
  }
  return false;
}

}  // namespace

ProcessResult run_process(const std::vector<std::string>& argv, const ProcessOptions& options) {
  Pipe in, out, err;
  if (fcntl(in.write_end(), F_SETFL, O_NONBLOCK) != 0)
    throw std::system_error(errno, std::generic_category(), "fcntl");
  signal(SIGPIPE, SIG_IGN);
  const pid_t pid = fork();
  if (pid < 0) throw std::system_error(errno, std::generic_category(), "fork");
  if (pid == 0) {
    signal(SIGPIPE, SIG_DFL);
    become(argv, options, in, out, err);
  }
  setpgid(pid, pid);
  in.close_read();
  out.close_write();
  err.close_write();

  ProcessResult result;
  result.timed_out = relay(in, out, err, options, result);
  if (result.timed_out) kill(-pid, SIGKILL);
  int status = 0;
  while (waitpid(pid, &status, 0) < 0)
    if (errno != EINTR) throw std::system_error(errno, std::generic_category(), "waitpid");
  if (WIFEXITED(status)) result.exit_code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) result.signal = WTERMSIG(status);
  return result;
}

bool on_path(const std::string& name) {
  const char* path = std::getenv("PATH");
  std::istringstream folders(path == nullptr ? "" : path);
  for (std::string folder; std::getline(folders, folder, ':');)
    if (access((folder + "/" + name).c_str(), X_OK) == 0) return true;
  return false;
}

}  // namespace weft::test
