// A rank of the fault tests: fault_rank FAULT [VALUE]. Rank 1 has the fault; all ranks check every
// result that a collective gives them, and end with 20 for a CommError, 21 for memory that is
// refused, 40 for a wrong result.
//   in_copy out          rank 1 is killed while a sum reads, or writes, its private tensor
//   arena_reduce arena_out   while a sum reads, or writes, another rank's part of shared memory
//   whenever=US          rank 1 is killed from another thread that long after its start
//   stop                 rank 1 stops itself once, in the middle
//   fork                 rank 1 forks a child that keeps all descriptors, then is killed
//   two_groups           two groups, used by two threads in different orders
//   memory=MIB           rank 1 gets that much address space more than it has when it starts
//   shared=MIB           rank 1 cannot allocate the shared memory that all ask for
//   scribble=SEED        rank 1 writes numbers drawn by SEED into the group's shared control block
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <new>
#include <random>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include <weft/core/base/error.hpp>
#include <weft/core/ops.hpp>
#include <weft/core/storage.hpp>
#include <weft/dist/comm/group.hpp>
#include <weft/tests/launcher/drill.hpp>

namespace {

using weft::dist::Group;

constexpr int64_t kFloats = 1 << 20;
constexpr size_t kBytes = kFloats * sizeof(float);
constexpr size_t kPage = 4096;

struct Wrong {};

void say(const std::string& text) {
  std::printf("%s\n", text.c_str());
  std::fflush(stdout);
}

/// In the moment before its death, so that the others can say how long after it they knew.
void note_death() {
  char text[32];
  const int length = std::snprintf(text, sizeof text, "died %" PRId64 "\n", weft::test::now_ns());
  if (::write(1, text, static_cast<size_t>(length)) != length) ::_exit(99);
}

[[noreturn]] void die() {
  note_death();
  ::kill(::getpid(), SIGKILL);
  for (;;) ::pause();
}

/// From here on an access that `protection` forbids, to the pages of [data, data + bytes), kills.
void forbid(std::byte* data, size_t bytes, int protection) {
  struct sigaction action {};
  action.sa_handler = [](int) { die(); };
  ::sigaction(SIGSEGV, &action, nullptr);
  const auto first = (reinterpret_cast<uintptr_t>(data) + kPage - 1) / kPage * kPage;
  const auto end = (reinterpret_cast<uintptr_t>(data) + bytes) / kPage * kPage;
  if (::mprotect(reinterpret_cast<void*>(first), end - first, protection) != 0) ::_exit(98);
}

void fill(float* data, int64_t count, float value) {
  for (int64_t i = 0; i < count; ++i) data[i] = value;
}

/// A sum whose every element is checked.
void checked_sum(const Group& group, float* data, int64_t count, int step) {
  fill(data, count, static_cast<float>(group.rank() + step));
  group.all_reduce(weft::from_blob(data, {count}, weft::DType::f32));
  const int ranks = group.size();
  const auto expected = static_cast<float>(ranks * (ranks - 1) / 2 + step * ranks);
  for (int64_t i = 0; i < count; ++i)
    if (data[i] != expected) throw Wrong();
}

/// Sums in private memory, or in shared, with the fault after the third.
void sums(const Group& group, const std::string& fault, long value) {
  const bool mine = group.rank() == 1;
  const bool arena = fault.starts_with("arena");
  std::vector<float> own(kFloats + 2 * kPage);
  weft::Storage shared;
  if (arena) shared = group.allocate_shared(kBytes);
  auto* data = arena ? reinterpret_cast<float*>(shared->data) : own.data();
  if (mine && fault == "whenever")
    std::thread([value] {
      std::this_thread::sleep_for(std::chrono::microseconds(value));
      die();
    }).detach();
  for (int step = 0;; ++step) {
    if (mine && step == 3) {
      auto* bytes = reinterpret_cast<std::byte*>(data);
      // Ranks' parts lie one after the other; rank 0's is before this one's.
      if (fault == "in_copy") forbid(bytes + kBytes / 2, kBytes / 2, PROT_NONE);
      if (fault == "out") forbid(bytes + kBytes / 2, kBytes / 2, PROT_READ);
      if (fault == "arena_reduce") forbid(bytes - kBytes, kBytes, PROT_NONE);
      if (fault == "arena_out") forbid(bytes - kBytes, kBytes, PROT_READ);
      if (fault == "fork" && ::fork() == 0)
        for (;;) ::pause();
      if (fault == "fork") die();
      if (fault == "stop") {
        say("stopping " + std::to_string(::getpid()));
        ::raise(SIGSTOP);
      }
    }
    if (step == 6 && fault == "stop") return;
    // What this rank may not touch it cannot fill either.
    if (mine && step == 3 && fault != "stop" && fault != "whenever")
      group.all_reduce(weft::from_blob(data, {kFloats}, weft::DType::f32));
    else
      checked_sum(group, data, kFloats, step);
  }
}

void two_groups(const Group& world) {
  const Group a = world.split(0), b = world.split(0);
  const bool even = world.rank() % 2 == 0;
  std::vector<float> first(1000), second(1000);
  // One thread per group. Which of the two is ahead differs from rank to rank.
  const auto use = [&](const Group& group, std::vector<float>& data, bool later) {
    for (int step = 0; step < 200; ++step) {
      if (later && step % 50 == 0) std::this_thread::yield();
      checked_sum(group, data.data(), 1000, step);
    }
  };
  std::thread other([&] { use(even ? a : b, even ? first : second, true); });
  use(even ? b : a, even ? second : first, false);
  other.join();
}

void limit_memory(long mebibytes) {
  long pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  const auto bytes = static_cast<rlim_t>(pages) * kPage + (static_cast<rlim_t>(mebibytes) << 20);
  const rlimit limit{bytes, bytes};
  ::setrlimit(RLIMIT_AS, &limit);
}

void scribble(long seed) {
  std::mt19937 random(static_cast<unsigned>(seed));
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    if (line.find("rw-s") == std::string::npos || line.find("/memfd:") == std::string::npos ||
        line.find("crash records") != std::string::npos)
      continue;
    uintptr_t start = 0;
    std::sscanf(line.c_str(), "%" SCNxPTR, &start);
    auto* words = reinterpret_cast<uint32_t*>(start);
    // The block begins the region: its header, then the lines of the ranks.
    for (int i = 0; i < 400; ++i) words[random() % 2048] = static_cast<uint32_t>(random());
    say("scribbled");
  }
}

void run(const std::string& fault, long value) {
  const char* rank = std::getenv("RANK");
  const bool mine = rank != nullptr && std::string(rank) == "1";
  if (mine && fault == "memory") limit_memory(value);
  const Group group = weft::dist::init_process_group();
  if (fault == "two_groups") return two_groups(group);
  if (fault == "memory" || fault == "shared") {
    std::vector<float> data(kFloats);
    checked_sum(group, data.data(), kFloats, 0);
    if (mine && fault == "shared") limit_memory(16);
    const weft::Storage shared =
        group.allocate_shared(static_cast<size_t>(fault == "shared" ? value : 8) << 20);
    checked_sum(group, reinterpret_cast<float*>(shared->data), kFloats / 4, 1);
    return;
  }
  if (fault == "scribble") {
    std::vector<float> data(1000);
    for (int step = 0; step < 3; ++step) checked_sum(group, data.data(), 1000, step);
    if (mine) scribble(value);
    // Where no word that matters was hit, they go on as if nothing were.
    for (int step = 3; step < 300; ++step) checked_sum(group, data.data(), 1000, step);
    return;
  }
  sums(group, fault, value);
}

}  // namespace

int main(int, char** argv) {
  const rlimit none{0, 0};
  ::setrlimit(RLIMIT_CORE, &none);
  if (std::getenv("IGNORE_TERM") != nullptr) ::signal(SIGTERM, SIG_IGN);
  const std::string argument = argv[1];
  const size_t equals = argument.find('=');
  const long value = equals == std::string::npos ? 0 : std::atol(argument.c_str() + equals + 1);
  try {
    run(argument.substr(0, equals), value);
  } catch (const weft::CommError& error) {
    say("lost " + std::to_string(weft::test::now_ns()) + " " + error.what());
    return 20;
  } catch (const weft::Error& error) {
    say(std::string("refused: ") + error.what());
    return 21;
  } catch (const std::bad_alloc&) {
    say("refused: std::bad_alloc");
    return 21;
  } catch (const std::system_error& error) {
    say(std::string("refused: ") + error.what());
    return 21;
  } catch (const Wrong&) {
    say("wrong result");
    return 40;
  }
  return 0;
}
