// A rank of a kill schedule: trains until one of the ranks ends it, as the plan in the folder
// $WEFT_TEST_PLAN says. The plan is drawn by the test; the launcher knows nothing of it.
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <thread>

#include <weft/core/base/error.hpp>
#include <weft/core/ops.hpp>
#include <weft/dist/comm/group.hpp>
#include <weft/tests/launcher/drill.hpp>

namespace {

using weft::test::Manner;
using weft::test::Place;
using weft::test::Plan;

std::string folder;

/// A whole file at once, so that the test never reads half of one.
void note(const std::string& name, const std::string& text) {
  const std::string file = folder + "/" + name;
  std::ofstream(file + ".new") << text;
  std::rename((file + ".new").c_str(), file.c_str());
}

/// The inodes of the memory that is shared with other ranks.
void note_segments(int rank) {
  std::ifstream maps("/proc/self/maps");
  std::string text;
  for (std::string line; std::getline(maps, line);) {
    if (line.find(" /memfd:") == std::string::npos) continue;
    char inode[32] = "";
    if (std::sscanf(line.c_str(), "%*s %*s %*s %*s %31s", inode) == 1)
      text += std::string(inode) + "\n";
  }
  note("segments." + std::to_string(rank), text);
}

struct Failed : std::runtime_error {
  using std::runtime_error::runtime_error;
};

void fault(int signal) {
  volatile int zero = 0;
  if (signal == SIGSEGV) *static_cast<volatile int*>(nullptr) = 1;
  if (signal == SIGFPE) zero = 1 / zero;
  if (signal == SIGABRT) std::abort();
  ::kill(::getpid(), signal);
  for (;;) ::pause();  // it is blocked nowhere: this thread goes no further
}

[[noreturn]] void hang(bool stopped) {
  note("hung", std::to_string(::getpid()));
  if (stopped) ::raise(SIGSTOP);
  for (;;) ::pause();
}

void burst(int mebibytes) {
  const std::string line(120, '.');
  for (int i = 0; i < mebibytes * 8000; ++i) {
    std::fprintf(i % 2 == 0 ? stdout : stderr, "%s %d\n", line.c_str(), i);
  }
}

void die(const Plan& plan) {
  if (plan.manner == Manner::hang) hang(plan.place == Place::collective);
  note("died", std::to_string(weft::test::now_ns()));
  switch (plan.manner) {
    case Manner::exit:
      // From another thread, std::exit would destroy what the main one is using.
      if (plan.place == Place::collective) ::_exit(plan.value);
      std::exit(plan.value);
    case Manner::quick_exit: ::_exit(plan.value);
    case Manner::unwind:
      if (plan.place == Place::collective) ::_exit(plan.value);  // no other thread's stack unwinds
      throw Failed("as the plan says");
    case Manner::uncaught: throw std::logic_error("as the plan says");
    default: fault(plan.value);
  }
}

/// Dies from another thread while the main one is in a collective, or about to be.
void die_meanwhile(const Plan& plan) {
  std::thread([plan] {
    std::this_thread::sleep_for(std::chrono::microseconds(plan.microseconds));
    die(plan);
  }).detach();
}

void train(const Plan& plan, const weft::dist::Group& group) {
  const weft::Tensor x = weft::full({64, 64}, 0.01), w = weft::full({64, 64}, 0.02);
  const bool culprit = group.rank() == plan.culprit;
  for (int step = 0;; ++step) {
    const bool now = culprit && step == plan.step;
    if (now && plan.place == Place::collective) die_meanwhile(plan);
    const weft::Tensor gradient = weft::tanh(weft::matmul(x, w));
    if (now && plan.place == Place::log_burst) burst(4);
    if (now && plan.place != Place::collective) die(plan);
    group.all_reduce(gradient);
  }
}

}  // namespace

int main() {
  const rlimit none{0, 0};
  ::setrlimit(RLIMIT_CORE, &none);
  folder = std::getenv("WEFT_TEST_PLAN");
  std::ifstream file(folder + "/plan");
  const Plan plan = Plan::parse(std::string(std::istreambuf_iterator<char>(file), {}));
  const int rank = std::atoi(std::getenv("RANK"));
  if (rank == plan.stubborn) ::signal(SIGTERM, SIG_IGN);
  // What a program does with the loss of a peer, in three common ways.
  const bool catches = rank % 3 != 2;
  try {
    const weft::dist::Group group = weft::dist::init_process_group();
    note_segments(rank);
    train(plan, group);
  } catch (const Failed&) {
    return plan.value;
  } catch (const weft::CommError& error) {
    if (rank == plan.stubborn)
      for (;;) ::pause();
    if (!catches) throw;
    std::fprintf(stderr, "lost: %s\n", error.what());
    return rank % 3 == 0 ? 1 : 30;
  }
}
