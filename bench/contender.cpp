#include <weft/bench/contender.hpp>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <sstream>
#include <stdexcept>

namespace weft::bench {

namespace {

using Clock = std::chrono::steady_clock;

socklen_t fill_address(const std::string& name, sockaddr_un& address) {
  address = {};
  address.sun_family = AF_UNIX;
  name.copy(address.sun_path + 1, sizeof address.sun_path - 1);  // the zero before it: abstract
  return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
}

/// One line; an empty one where the other side has closed.
std::string read_line(int socket) {
  std::string line;
  for (char c = 0;;) {
    const ssize_t got = read(socket, &c, 1);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0 || c == '\n') return line;
    line += c;
  }
}

void write_line(int socket, const std::string& line) {
  const std::string text = line + "\n";
  if (send(socket, text.data(), text.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(text.size()))
    throw std::runtime_error("a contender is gone");
}

}  // namespace

void serve(const std::string& address, int rank, const std::function<double(const Order&)>& work) {
  const int socket = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un to{};
  const socklen_t length = fill_address(address, to);
  if (connect(socket, reinterpret_cast<sockaddr*>(&to), length) != 0)
    throw std::runtime_error("cannot reach the driver: " + std::string(std::strerror(errno)));
  write_line(socket, "hello " + std::to_string(rank));
  while (true) {
    const std::string line = read_line(socket);
    if (line.empty()) break;
    std::istringstream words(line);
    Order order;
    words >> order.operation >> order.bytes >> order.in_arena >> order.iterations;
    std::ostringstream answer;
    answer.precision(12);
    answer << work(order);
    write_line(socket, answer.str());
  }
  close(socket);
}

Contender::Contender(std::string name, int ranks, const Commands& commands, double patience)
    : name_(std::move(name)), sockets_(static_cast<size_t>(ranks), -1) {
  static int number = 0;
  const std::string address =
      "weft-bench-" + std::to_string(getpid()) + "-" + std::to_string(++number);
  const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un own{};
  const socklen_t length = fill_address(address, own);
  if (bind(listener, reinterpret_cast<sockaddr*>(&own), length) != 0 ||
      listen(listener, ranks) != 0)
    throw std::runtime_error("cannot listen: " + std::string(std::strerror(errno)));
  for (const auto& command : commands(address)) start(command);
  if (!accept_all(listener, ranks, patience) && why_not_.empty())
    why_not_ = "its ranks did not start";
  close(listener);
}

Contender::~Contender() {
  for (const int socket : sockets_)
    if (socket >= 0) close(socket);
  const auto deadline = Clock::now() + std::chrono::seconds(5);
  for (const pid_t process : processes_) {
    while (waitpid(process, nullptr, WNOHANG) == 0) {
      if (Clock::now() > deadline) kill(process, SIGKILL);
      usleep(2000);
    }
  }
}

void Contender::start(const std::vector<std::string>& command) {
  std::vector<char*> words;
  for (const std::string& word : command) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  const pid_t process = fork();
  if (process < 0) throw std::runtime_error("fork: " + std::string(std::strerror(errno)));
  if (process == 0) {
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    const int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
    dup2(nothing, STDIN_FILENO);
    dup2(STDERR_FILENO, STDOUT_FILENO);  // stdout is the report's
    execvp(words[0], words.data());
    _exit(127);
  }
  processes_.push_back(process);
}

bool Contender::any_ended() {
  for (const pid_t process : processes_) {
    siginfo_t info{};
    if (waitid(P_PID, static_cast<id_t>(process), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
        info.si_pid != 0) {
      why_not_ = "it ended at once, with code " + std::to_string(info.si_status);
      return true;
    }
  }
  return false;
}

bool Contender::accept_all(int listener, int ranks, double patience) {
  const auto deadline = Clock::now() + std::chrono::duration<double>(patience);
  for (int joined = 0; joined < ranks;) {
    pollfd watched{listener, POLLIN, 0};
    if (poll(&watched, 1, 100) <= 0) {
      if (any_ended() || Clock::now() > deadline) return false;
      continue;
    }
    const int socket = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    const std::string hello = read_line(socket);
    const int rank = hello.starts_with("hello ") ? std::atoi(hello.c_str() + 6) : -1;
    if (rank < 0 || rank >= ranks || sockets_[static_cast<size_t>(rank)] >= 0) {
      close(socket);
      why_not_ = "a rank introduced itself as '" + hello + "'";
      return false;
    }
    sockets_[static_cast<size_t>(rank)] = socket;
    ++joined;
  }
  return true;
}

double Contender::measure(const Order& order) {
  const std::string text = order.operation + " " + std::to_string(order.bytes) + " " +
                           (order.in_arena ? "1 " : "0 ") + std::to_string(order.iterations);
  for (const int socket : sockets_) write_line(socket, text);
  double slowest = 0;
  for (const int socket : sockets_) {
    const std::string answer = read_line(socket);
    if (answer.empty()) throw std::runtime_error(name_ + ": a rank is gone");
    slowest = std::max(slowest, std::stod(answer));
  }
  return slowest;
}

std::string own_folder() {
  return std::filesystem::read_symlink("/proc/self/exe").parent_path().string();
}

}  // namespace weft::bench
