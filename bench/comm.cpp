// Collectives of two ranks on one host: our shared memory against raw gloo over TCP.
//
// The harness drives rank 0; rank 1 is a child process that follows: before each call rank 0 writes
// which one it is into a word that both map. That word costs both sides the same fraction of a
// microsecond.
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include <weft/bench/comm_peer.hpp>
#include <weft/bench/harness.hpp>
#include <weft/core/op.hpp>
#include <weft/core/ops.hpp>
#include <weft/dist/comm/group.hpp>
#include <weft/dist/store/tcp_store.hpp>

namespace {

using namespace weft;

constexpr const char* kToken = "benchmark of two ranks";
constexpr int kRanks = 2;
constexpr int kStop = -1;

/// What both processes map: the port of the store, and the calls of rank 0.
struct Shared {
  std::atomic<int> port{0};
  alignas(64) std::atomic<uint64_t> number{0};
  std::atomic<int> call{0};
};

struct Case {
  std::string name;
  size_t bytes;
  bool in_arena;
};

const std::vector<Case> kCases = {
    {"all_reduce 4 KiB", 4 << 10, true},
    {"all_reduce 64 KiB", 64 << 10, true},
    {"all_reduce 1 MiB, in the arena", 1 << 20, true},
    {"all_reduce 1 MiB, own memory", 1 << 20, false},
    {"all_reduce 64 MiB, in the arena", 64 << 20, true},
    {"all_reduce 64 MiB, own memory", 64 << 20, false},
};

/// One rank: its group, its gloo, and the buffers of all cases.
class Rank {
 public:
  Rank(int rank, int port) {
    setenv("RANK", std::to_string(rank).c_str(), 1);
    setenv("WORLD_SIZE", std::to_string(kRanks).c_str(), 1);
    setenv("LOCAL_WORLD_SIZE", std::to_string(kRanks).c_str(), 1);
    setenv("WEFT_STORE", ("tcp://127.0.0.1:" + std::to_string(port)).c_str(), 1);
    setenv("WEFT_TOKEN", kToken, 1);
    group_ = std::make_unique<dist::Group>(dist::init_process_group());
    if (bench::RawGloo::is_built())
      gloo_ =
          std::make_unique<bench::RawGloo>(*dist::connect_store_from_environment(), rank, kRanks);
    for (const Case& c : kCases) {
      const auto count = static_cast<int64_t>(c.bytes / sizeof(float));
      ours_.push_back(
          c.in_arena ? tensor_over(group_->allocate_shared(c.bytes), {count}, {1}, 0, DType::f32)
                     : empty({count}));
      ours_.back().zero_();
      theirs_.emplace_back(c.bytes / sizeof(float), 0.0f);
    }
  }

  // Calls 2 i and 2 i + 1 are case i by us and by gloo; behind them, the barriers.
  void run(int call) {
    const auto i = static_cast<size_t>(call / 2);
    const bool peer = call % 2 == 1;
    if (i == kCases.size())
      peer ? gloo_->barrier() : group_->barrier();
    else if (peer)
      gloo_->all_reduce(theirs_[i].data(), theirs_[i].size());
    else
      group_->all_reduce(ours_[i]);
  }

 private:
  std::unique_ptr<dist::Group> group_;
  std::unique_ptr<bench::RawGloo> gloo_;
  std::vector<Tensor> ours_;
  std::vector<std::vector<float>> theirs_;
};

void follow(Shared& shared) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  int port = 0;
  while ((port = shared.port.load()) == 0) usleep(1000);
  Rank rank(1, port);
  for (uint64_t done = 0;; ++done) {
    for (int spins = 0; shared.number.load(std::memory_order_acquire) == done; ++spins)
      if (spins > 2000) sched_yield();
    const int call = shared.call.load(std::memory_order_relaxed);
    if (call == kStop) return;
    rank.run(call);
  }
}

void tell(Shared& shared, int call) {
  shared.call.store(call, std::memory_order_relaxed);
  shared.number.fetch_add(1, std::memory_order_release);
}

}  // namespace

int main(int argc, char** argv) {
  void* memory =
      mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    std::perror("mmap");
    return 1;
  }
  auto& shared = *::new (memory) Shared;
  const pid_t child = fork();  // before any thread exists
  if (child == 0) {
    follow(shared);
    return 0;
  }
  int code = 1;
  {
    const dist::StoreServer server({.token = kToken});
    shared.port.store(server.port());
    Rank rank(0, server.port());
    const auto caller = [&](int call) {
      return [&shared, &rank, call] {
        tell(shared, call);
        rank.run(call);
      };
    };
    std::vector<bench::Row> rows;
    const auto add = [&](const std::string& name, int index, double bytes) {
      bench::Row row{
          .name = name, .weft = caller(2 * index), .peer = {}, .bytes = bytes, .peer_name = "gloo"};
      if (bench::RawGloo::is_built()) row.peer = caller(2 * index + 1);
      rows.push_back(row);
    };
    for (size_t i = 0; i < kCases.size(); ++i)
      add(kCases[i].name, static_cast<int>(i), static_cast<double>(kCases[i].bytes));
    add("barrier", static_cast<int>(kCases.size()), 0);
    code = bench::run_rows(argc, argv, rows, [](int) {});
    tell(shared, kStop);
    waitpid(child, nullptr, 0);
  }
  return code;
}
