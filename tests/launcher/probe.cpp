// A rank whose behaviour its arguments script, one after the other:
//   only=R          the rest is for rank R alone; other ranks go on behind `all`
//   attempt=N       the rest is for attempt N alone
//   all             the rest is for every rank again
//   exit=N signal=NAME   end, by exit code or by signal
//   out=TEXT err=TEXT    a line on stdout or stderr
//   part=TEXT       the same on stdout without its end
//   long=N          a line of N bytes
//   lines=N         N short lines
//   eat=N           use N MiB of memory
//   affinity        a line with the CPUs that it may use
//   close=1         close that descriptor
//   env=NAME        a line NAME=value
//   fds             a line with the open descriptors, without that of the crash records
//   pid             a line "pid N"
//   ignore=NAME     ignore that signal
//   block=NAME      block it, for `await`
//   await=NAME      wait for it, then a line "got NAME"
//   input           wait for the end of stdin, then a line with its size
//   set=KEY get=KEY put a key into the job's store, or wait for one and print it
//   child           a child that waits for ever; daemon: one in a session of its own
//   forever         wait for ever
//   --              a line for each argument behind it
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <weft/dist/store/place.hpp>
#include <weft/dist/store/tcp_store.hpp>

namespace {

const std::map<std::string, int> kSignals = {
    {"ABRT", SIGABRT}, {"HUP", SIGHUP},   {"INT", SIGINT},   {"KILL", SIGKILL},
    {"QUIT", SIGQUIT}, {"SEGV", SIGSEGV}, {"STOP", SIGSTOP}, {"CONT", SIGCONT},
    {"TERM", SIGTERM}, {"USR1", SIGUSR1}, {"USR2", SIGUSR2}};

void line(const std::string& text, FILE* to = stdout) {
  std::fprintf(to, "%s\n", text.c_str());
  std::fflush(to);
}

sigset_t just(int signal) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signal);
  return set;
}

[[noreturn]] void wait_for_ever() {
  for (;;) ::pause();
}

void child(bool own_session) {
  if (::fork() != 0) return;
  if (own_session) {
    ::setsid();
    if (::fork() != 0) ::_exit(0);
  }
  line("child " + std::to_string(::getpid()));
  wait_for_ever();
}

void list_descriptors() {
  std::set<int> open;
  DIR* folder = ::opendir("/proc/self/fd");
  while (const dirent* entry = ::readdir(folder))
    if (entry->d_name[0] != '.' && std::atoi(entry->d_name) != ::dirfd(folder))
      open.insert(std::atoi(entry->d_name));
  ::closedir(folder);
  if (const char* crash = std::getenv("WEFT_CRASH_FD")) open.erase(std::atoi(crash));
  std::string text = "fds";
  for (const int fd : open) text += " " + std::to_string(fd);
  line(text);
}

void read_input() {
  size_t size = 0;
  char buffer[4096];
  for (ssize_t got = 0; (got = ::read(0, buffer, sizeof buffer)) > 0;)
    size += static_cast<size_t>(got);
  line("input of " + std::to_string(size) + " bytes");
}

void await(const std::string& name) {
  const sigset_t set = just(kSignals.at(name));
  int got = 0;
  ::sigwait(&set, &got);
  line("got " + name);
}

void eat(size_t mebibytes) {
  static std::vector<std::vector<char>> eaten;
  for (size_t i = 0; i < mebibytes; ++i) eaten.emplace_back(1 << 20, 'x');
}

/// "0-3,8"
std::string allowed_cpus() {
  std::string text;
  char buffer[4096];
  FILE* status = std::fopen("/proc/self/status", "r");
  while (status != nullptr && std::fgets(buffer, sizeof buffer, status) != nullptr)
    if (std::string(buffer).starts_with("Cpus_allowed_list:\t")) text = buffer + 19;
  if (status != nullptr) std::fclose(status);
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

weft::dist::Store& store() {
  static const auto instance = weft::dist::connect_store_from_environment();
  return *instance;
}

void end_by(int signal) {
  const rlimit none{0, 0};
  ::setrlimit(RLIMIT_CORE, &none);
  const sigset_t set = just(signal);
  ::sigprocmask(SIG_UNBLOCK, &set, nullptr);
  ::signal(signal, SIG_DFL);
  ::raise(signal);
}

void act(const std::string& verb, const std::string& value) {
  if (verb == "exit") std::exit(std::atoi(value.c_str()));
  if (verb == "signal") return end_by(kSignals.at(value));
  if (verb == "out") return line(value);
  if (verb == "err") return line(value, stderr);
  if (verb == "part") {
    std::fputs(value.c_str(), stdout);
    std::fflush(stdout);
    return;
  }
  if (verb == "long") return line(std::string(std::strtoul(value.c_str(), nullptr, 10), 'x'));
  if (verb == "lines") {
    for (long i = std::atol(value.c_str()); i > 0; --i) std::puts("one of many lines of output");
    std::fflush(stdout);
    return;
  }
  if (verb == "eat") return eat(std::strtoul(value.c_str(), nullptr, 10));
  if (verb == "affinity") return line("CPUs " + allowed_cpus());
  if (verb == "close") {
    ::close(std::atoi(value.c_str()));
    return;
  }
  if (verb == "env") {
    const char* text = std::getenv(value.c_str());
    return line(value + (text ? "=" + std::string(text) : " is not set"));
  }
  if (verb == "fds") return list_descriptors();
  if (verb == "pid") return line("pid " + std::to_string(::getpid()));
  if (verb == "ignore") {
    ::signal(kSignals.at(value), SIG_IGN);
    return;
  }
  if (verb == "block") {
    const sigset_t set = just(kSignals.at(value));
    ::sigprocmask(SIG_BLOCK, &set, nullptr);
    return;
  }
  if (verb == "await") return await(value);
  if (verb == "input") return read_input();
  if (verb == "set") return store().set(value, "1");
  if (verb == "get") return line(value + "=" + store().get(value));
  if (verb == "child" || verb == "daemon") return child(verb == "daemon");
  if (verb == "forever") wait_for_ever();
  line("probe: unknown action " + verb, stderr);
  std::exit(99);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string rank = std::to_string(weft::dist::place_from_environment().rank);
  bool mine = true;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--") {
      while (mine && ++i < argc) line(argv[i]);
      break;
    }
    const size_t equals = argument.find('=');
    const std::string verb = argument.substr(0, equals);
    const std::string value = equals == std::string::npos ? "" : argument.substr(equals + 1);
    if (verb == "only")
      mine = value == rank;
    else if (verb == "attempt")
      mine = mine && value == std::getenv("RESTART_COUNT");
    else if (verb == "all")
      mine = true;
    else if (mine)
      act(verb, value);
  }
  return 0;
}
