#include <weft/tests/launcher/pseudo_terminal.hpp>

#include <doctest/doctest.h>

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

namespace weft::test {

namespace {

constexpr int kPatience = 20'000;  // milliseconds

}  // namespace

PseudoTerminal::PseudoTerminal(const std::vector<std::string>& argv,
                               const std::vector<std::string>& environment, int columns) {
  winsize size{};
  size.ws_row = 24;
  size.ws_col = static_cast<unsigned short>(columns);
  // The other end stays open here too: else its modes are lost with the program.
  REQUIRE(::openpty(&fd_, &other_end_, nullptr, nullptr, &size) == 0);
  pid_ = ::fork();
  REQUIRE(pid_ >= 0);
  if (pid_ == 0) {
    ::setsid();
    ::ioctl(other_end_, TIOCSCTTY, 0);
    for (int fd = 0; fd < 3; ++fd) ::dup2(other_end_, fd);
    ::close(fd_);
    if (other_end_ > 2) ::close(other_end_);
    for (const int number : {SIGINT, SIGQUIT, SIGTERM, SIGHUP}) ::signal(number, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::setenv("TERM", "xterm", 1);
    for (const std::string& entry : environment) ::putenv(const_cast<char*>(entry.c_str()));
    std::vector<char*> words;
    for (const std::string& word : argv) words.push_back(const_cast<char*>(word.c_str()));
    words.push_back(nullptr);
    ::execv(words[0], words.data());
    ::_exit(127);
  }
}

PseudoTerminal::~PseudoTerminal() {
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  ::close(fd_);
  ::close(other_end_);
}

void PseudoTerminal::send(const std::string& keys) {
  REQUIRE(::write(fd_, keys.data(), keys.size()) == static_cast<ssize_t>(keys.size()));
}

bool PseudoTerminal::read_more(int milliseconds) {
  pollfd ready{fd_, POLLIN, 0};
  if (::poll(&ready, 1, milliseconds) <= 0) return false;
  char buffer[4096];
  const ssize_t count = ::read(fd_, buffer, sizeof buffer);
  if (count <= 0) return false;
  output_.append(buffer, static_cast<size_t>(count));
  return true;
}

void PseudoTerminal::wait_for(const std::string& text) {
  for (;;) {
    const size_t found = output_.find(text, seen_);
    if (found != std::string::npos) {
      seen_ = found + text.size();
      return;
    }
    const bool more = read_more(kPatience);
    REQUIRE_MESSAGE(more, "no '" << text << "' on the terminal, only:\n" << output_.substr(seen_));
  }
}

int PseudoTerminal::finish() {
  int status = 0;
  for (int waited = 0; ::waitpid(pid_, &status, WNOHANG) == 0; waited += 20) {
    REQUIRE_MESSAGE(waited < kPatience, "it does not end; so far:\n" << output_);
    read_more(20);
  }
  pid_ = -1;
  while (read_more(0)) {
  }
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

termios PseudoTerminal::modes() const {
  termios modes{};
  REQUIRE(::tcgetattr(other_end_, &modes) == 0);
  return modes;
}

}  // namespace weft::test
