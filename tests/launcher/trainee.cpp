// A rank that uses libweft and then fails in the way that its arguments say, one after the other:
//   only=R all       as for the probe: the rest is for rank R alone, or for every rank again
//   join             make the group of all ranks
//   reduce=N         N sums over the group, of a [2, 3] tensor
//   big=N            N sums of 8 MiB each, from private memory
//   forever          such sums until something ends it
//   absent           say "absent" and wait for ever
//   say=TEXT         a line on stdout
//   segv call_null overflow fpe ill bus   faults
//   abort throw throw_int terminate       ways to std::abort
//   own_handler      install a handler for SIGSEGV that exits with 55
//   thread_segv      a fault in a second thread
//   fork_segv        a child that faults, while this process goes on
//   many_segv         faults in eight threads at once
//   smash            overwrites its stack with numbers that are no addresses, and returns
//   shell=COMMAND    run it
//   leave            give the group up
//   busy=N           compute for N ms of processor time
//   kill_self        SIGKILL to itself
//   exit=N           std::exit
//   catch            from here on exceptions give exit code 20, with a line on stderr
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <weft/core/ops.hpp>
#include <weft/dist/comm/group.hpp>

namespace {

std::optional<weft::dist::Group> group;

void say(const std::string& text) {
  std::printf("%s\n", text.c_str());
  std::fflush(stdout);
}

// Kept from being folded into each other, so that the stack has the names that tests look for.
[[gnu::noinline]] void write_through(volatile int* pointer) { *pointer = 1; }
[[gnu::noinline]] void write_to_null() { write_through(nullptr); }

[[gnu::noinline]] int recurse(volatile int* depth) {
  volatile char frame[4096];
  frame[0] = static_cast<char>(*depth);
  return *depth < 0 ? 0 : recurse(depth) + frame[0];
}

[[gnu::noinline]] void overflow_the_stack() {
  volatile int depth = 1;
  recurse(&depth);
}

[[gnu::noinline]] void call_null() {
  void (*volatile nothing)() = nullptr;
  nothing();
}

[[gnu::noinline]] void divide_by_zero() {
  volatile int zero = 0, one = 1;
  one = one / zero;
}

[[gnu::noinline]] void touch_beyond_the_file() {
  const int file = ::memfd_create("short", MFD_CLOEXEC);
  if (::ftruncate(file, 4096) != 0) std::exit(98);
  auto* at = static_cast<volatile char*>(
      ::mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0));
  at[5000] = 1;
}

void fault_in_thread() {
  std::thread([] {
    ::prctl(PR_SET_NAME, "second thread");
    write_to_null();
  }).join();
}

void fault_in_threads() {
  std::atomic<int> ready = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i)
    threads.emplace_back([&] {
      ++ready;
      while (ready < 8) continue;
      write_to_null();
    });
  for (std::thread& thread : threads) thread.join();
}

[[gnu::noinline]] void smash_the_stack() {
  auto* volatile frame = static_cast<volatile uint64_t*>(__builtin_frame_address(0));
  for (int i = 0; i < 64; ++i) frame[i] = 0x4141414141414141u;
}

void fault_in_child() {
  const pid_t child = ::fork();
  if (child == 0) write_to_null();
  int status = 0;
  ::waitpid(child, &status, 0);
  say("child ended by signal " + std::to_string(WTERMSIG(status)));
}

void compute_for(long milliseconds) {
  const std::clock_t end = std::clock() + milliseconds * (CLOCKS_PER_SEC / 1000);
  while (std::clock() < end) continue;
}

void reduce(int64_t times, int64_t count) {
  const weft::Tensor values = count == 6 ? weft::full({2, 3}, 1.0) : weft::full({count}, 1.0);
  for (int64_t i = 0; i < times; ++i) group->all_reduce(values);
}

const std::map<std::string, std::function<void(const std::string&)>> kActions = {
    {"join", [](const std::string&) { group = weft::dist::init_process_group(); }},
    {"reduce", [](const std::string& n) { reduce(std::stol(n), 6); }},
    {"big", [](const std::string& n) { reduce(std::stol(n), 2 << 20); }},
    {"forever", [](const std::string&) { reduce(int64_t{1} << 60, 6); }},
    {"absent",
     [](const std::string&) {
       say("absent");
       for (;;) ::pause();
     }},
    {"say", say},
    {"segv", [](const std::string&) { write_to_null(); }},
    {"call_null", [](const std::string&) { call_null(); }},
    {"overflow", [](const std::string&) { overflow_the_stack(); }},
    {"fpe", [](const std::string&) { divide_by_zero(); }},
    {"ill", [](const std::string&) { __builtin_trap(); }},
    {"bus", [](const std::string&) { touch_beyond_the_file(); }},
    {"abort", [](const std::string&) { std::abort(); }},
    {"throw", [](const std::string&) { throw std::runtime_error("the loss is NaN"); }},
    {"throw_int", [](const std::string&) { throw 7; }},
    {"terminate", [](const std::string&) { std::terminate(); }},
    {"own_handler", [](const std::string&) { ::signal(SIGSEGV, [](int) { ::_exit(55); }); }},
    {"thread_segv", [](const std::string&) { fault_in_thread(); }},
    {"many_segv", [](const std::string&) { fault_in_threads(); }},
    {"smash", [](const std::string&) { smash_the_stack(); }},
    {"fork_segv", [](const std::string&) { fault_in_child(); }},
    {"shell",
     [](const std::string& command) { say(std::to_string(std::system(command.c_str()))); }},
    {"leave", [](const std::string&) { group.reset(); }},
    {"busy", [](const std::string& ms) { compute_for(std::stol(ms)); }},
    {"kill_self", [](const std::string&) { ::raise(SIGKILL); }},
    {"exit", [](const std::string& code) { std::exit(std::stoi(code)); }},
};

void run(int argc, char** argv, int from) {
  const char* rank = std::getenv("RANK");
  bool mine = true;
  for (int i = from; i < argc; ++i) {
    const std::string argument = argv[i];
    const size_t equals = argument.find('=');
    const std::string verb = argument.substr(0, equals);
    const std::string value = equals == std::string::npos ? "" : argument.substr(equals + 1);
    if (verb == "only") {
      mine = rank != nullptr && value == rank;
    } else if (verb == "all") {
      mine = true;
    } else if (mine && verb == "catch") {
      try {
        return run(argc, argv, i + 1);
      } catch (const std::exception& error) {
        std::fprintf(stderr, "caught: %s\n", error.what());
        std::exit(20);
      }
    } else if (mine) {
      kActions.at(verb)(value);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const rlimit none{0, 0};
  ::setrlimit(RLIMIT_CORE, &none);
  run(argc, argv, 1);
  return 0;
}
