// What the processes of the group tests do; RankProcesses runs this case of this binary.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include <weft/core/base/error.hpp>
#include <weft/core/ops.hpp>
#include <weft/dist/comm/group.hpp>
#include <weft/dist/stop.hpp>
#include <weft/dist/store/tcp_store.hpp>
#include <weft/tests/dist/oracle.hpp>

using namespace weft;
using namespace weft::dist;

namespace {

void say(const std::string& line) {
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}

void check(bool condition, const char* what) {
  if (condition) return;
  say(std::string("wrong: ") + what);
  _exit(1);
}

/// Sums of every size, private and shared, and everything else once.
void use_everything(const Group& group) {
  const int ranks = group.size();
  const float total = static_cast<float>(ranks * (ranks + 1)) / 2;
  for (const int64_t count : {1, 1000, 300'000}) {
    const Tensor mine = full({count}, group.rank() + 1.0);
    group.all_reduce(mine);
    check(mine.to_vector<float>() == std::vector<float>(static_cast<size_t>(count), total), "sum");
    const Storage memory = group.allocate_shared(static_cast<size_t>(count) * sizeof(float));
    auto* values = reinterpret_cast<float*>(memory->data);
    const Tensor shared = from_blob(values, {count}, DType::f32);
    for (int64_t i = 0; i < count; ++i) values[i] = static_cast<float>(group.rank() + 1);
    group.all_reduce(shared);
    check(shared.to_vector<float>() == std::vector<float>(static_cast<size_t>(count), total),
          "sum in shared memory");
  }
  const std::vector<int64_t> all = group.all_gather(tensor({group.rank()})).to_vector<int64_t>();
  for (int r = 0; r < ranks; ++r) check(all[static_cast<size_t>(r)] == r, "all_gather");
  const Tensor token = full({100'000}, group.rank() == 0 ? 7.0 : 0.0);
  const int next = (group.rank() + 1) % ranks, before = (group.rank() + ranks - 1) % ranks;
  if (group.rank() != 0) group.recv(token, before);
  if (ranks > 1) group.send(token, next);
  if (ranks > 1 && group.rank() == 0) group.recv(token, before);
  check(token.to_vector<float>()[99'999] == 7, "ring of send and recv");
  try {
    group.allocate_shared(size_t{1} << 46);  // more than any host has, and no reason to be killed
    check(group.size() == 1, "memory without end");
  } catch (const OutOfMemory&) {
  }
  const Group half = group.split(group.rank() % 2);
  const Tensor one = full({1}, 1.0);
  half.all_reduce(one);
  check(one.item<int>() == half.size(), "split");
}

void reduce_forever(const Group& group) {
  const Tensor values = full({1 << 20}, 0.0);
  group.all_reduce(values);
  say("looping");
  while (true) group.all_reduce(values);
}

/// The last rank never calls what the others wait in.
void stay_away(const Group& group) {
  group.barrier();
  if (group.rank() == group.size() - 1) {
    say("away");
    while (true) pause();
  }
  group.all_reduce(full({10}, 1.0));
}

/// SIGUSR1, kept from its construction on until it is waited for.
class Word {
 public:
  Word() {
    sigemptyset(&set_);
    sigaddset(&set_, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set_, nullptr);
  }
  void wait() const {
    int number = 0;
    sigwait(&set_, &number);
  }

 private:
  sigset_t set_{};
};

/// The last rank comes when it gets SIGUSR1.
void come_when_told(const Group& group) {
  const Word word;
  group.barrier();
  if (group.rank() == group.size() - 1) {
    say("away");
    word.wait();
  } else {
    say("waits");
  }
  group.all_reduce(full({10}, 1.0));
}

/// A group of all ranks is split off when SIGUSR1 says so.
void split_when_told(const Group& group) {
  const Word word;
  group.barrier();
  say("ready");
  word.wait();
  const Group again = group.split(0);
  const Tensor one = full({1}, 1.0);
  again.all_reduce(one);
  check(one.item<int>() == again.size(), "sum after the split");
}

/// Rank 0 sends the others what they wait for and ends, before they can take it.
void leave_at_once(const Group& group) {
  const Word word;
  group.barrier();
  say("ready");
  if (group.rank() == 0) word.wait();
  const Tensor values = full({1000}, group.rank() == 0 ? 7.0 : 0.0);
  group.broadcast(values);
  check(values.to_vector<double>()[999] == 7, "what the root sent");
  if (group.rank() != 0) group.barrier();
}

void call_differently(const Group& group) {
  const Tensor values = full({2, 3}, 1.0);
  if (group.rank() == 1)
    group.broadcast(values, 0);
  else
    group.all_reduce(values);
}

/// Rank 1 takes 50 ms longer than the others before each collective.
/// One rank comes late to ten calls.
void come_late(const Group& group, int rank) {
  const Tensor values = full({100}, 1.0);
  for (int i = 0; i < 10; ++i) {
    if (group.rank() == rank) usleep(50'000);
    group.all_reduce(values);
  }
}

void be_slow(const Group& group) {
  come_late(group, 1);
  const std::vector<RankStatistics> all = group.statistics();
  check(all.size() == static_cast<size_t>(group.size()), "statistics of every rank");
  size_t slowest = 0;
  for (size_t r = 0; r < all.size(); ++r) {
    check(all[r].rank == static_cast<int>(r) && all[r].calls >= 10, "calls are counted");
    if (all[r].last > all[slowest].last) slowest = r;
  }
  check(all[slowest].lateness_p50 > 0.02 && all[slowest].lateness_p99 < 60, "lateness");
  say("slowest: rank " + std::to_string(slowest));
}

volatile sig_atomic_t own_handler_calls = 0;

/// Trains, so to speak, until somebody asks for an end.
void run_until_stop(const Group& group) {
  struct sigaction own = {};
  own.sa_handler = [](int) { own_handler_calls = own_handler_calls + 1; };
  sigaction(SIGUSR1, &own, nullptr);
  signal(SIGTERM, SIG_DFL);  // the tests' framework has a handler of its own
  int64_t steps = 0;
  while (!stop_requested(group))
    if (++steps == 1) say("looping");
  check(stop_requested(group), "asked once, asked for good");
  const std::vector<int64_t> all = group.all_gather(tensor({steps})).to_vector<int64_t>();
  for (const int64_t its : all) check(its == steps, "all ranks stop at the same step");
  say("stopped; own handler called " + std::to_string(own_handler_calls));
}

void stop_late(const Group& group) {
  run_until_stop(group);
  while (true) pause();
}

/// Everything that the tests of groups know, over real processes.
void pass_all_checks(const Group& group) {
  test::Problems problems;
  test::check_all_reduce(group, problems, {0, 13, 5'000, 40'001}, 100);
  test::check_moves(group, problems, {0, 1, 5'000}, {DType::u8, DType::bf16, DType::f64});
  test::check_messages(group, problems, {0, 3, 70'001});
  test::check_bytes(group, problems);
  test::check_splits(group, problems);
  test::check_shared_memory(group, problems, 1'000);
  test::check_shared_memory(group, problems, 1'200'001);
  check(problems.text().empty(), problems.text().c_str());
}

/// The last rank sends where the others add up.
void send_instead(const Group& group) {
  if (group.rank() == group.size() - 1)
    group.send(full({4}, 1.0), 0);
  else
    group.all_reduce(full({4}, 1.0));
}

/// Rank 0 leaves all groups while the others use one of their own, on the same hosts. Whether the
/// rank goes on to the end.
bool leave_early(const Group& group) {
  const std::shared_ptr<Store> store = connect_store_from_environment();
  store->wait({"life/0", "life/1"});
  const Group rest = group.split(group.rank() == 0 ? 0 : 1);
  if (group.rank() == 0) return false;
  // Its host's signs of life are gone, not stopped: nobody takes it for dead.
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (store->check({"life/0"}) && std::chrono::steady_clock::now() < end) rest.check_alive();
  check(!store->check({"life/0"}) && store->check({"life/1"}), "only the first host is left");
  const Tensor one = full({1}, 1.0);
  rest.all_reduce(one);
  check(one.item<int>() == rest.size(), "the others go on");
  return false;
}

/// A child of rank 0 ends its copies of the groups. Whether this is a rank and not that child.
bool fork_child(const Group& group) {
  if (group.rank() != 0) return true;
  const pid_t child = fork();
  if (child == 0) return false;
  int status = -1;
  check(waitpid(child, &status, 0) == child && status == 0, "the child ends");
  return true;
}

/// Threads of the library take none of the program's signals.
void look_at_threads() {
  int others = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/task")) {
    if (entry.path().filename() == std::to_string(getpid())) continue;
    ++others;
    std::ifstream file(entry.path() / "status");
    uint64_t blocked = 0;
    for (std::string word; file >> word;)
      if (word == "SigBlk:") file >> std::hex >> blocked;
    for (const int signal : {SIGINT, SIGTERM, SIGUSR1, SIGALRM, SIGPIPE})
      check((blocked >> (signal - 1) & 1) != 0, "signals are blocked");
  }
  check(others >= 3, "gloo's thread, the ticker and the watch are seen");
}

/// Whether `use`, in a child by fork, is refused with words that begin with `op`.
bool refused_in_child(const char* op, const std::function<void()>& use) {
  try {
    use();
  } catch (const CommError& error) {
    const std::string text = error.what();
    return text.find(std::string(op) + ": this process (" + std::to_string(getpid()) +
                     ") is a child by fork of rank ") == 0 &&
           text.find("(pid " + std::to_string(getppid()) + ")") != std::string::npos;
  }
  return false;
}

/// Children by fork may not use this process's groups, run its destructors, and end.
void fork_children(const Group& world) {
  auto group = std::make_unique<Group>(world.split(0));
  for (int i = 0; i < 2; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      const bool refused = refused_in_child("all_reduce", [&] { group->all_reduce(zeros({1})); }) &&
                           refused_in_child("barrier", [&] { group->barrier(); }) &&
                           refused_in_child("split", [&] { group->split(0); });
      group->abort("by the child");
      group.reset();
      _exit(refused ? 0 : 1);
    }
    int status = -1;
    check(waitpid(child, &status, 0) == child && status == 0, "the child's calls are refused");
    const Tensor one = full({1}, 1.0);
    group->all_reduce(one);
    check(one.item<int>() == group->size(), "sum after a child has ended");
  }
}

/// Rank 1 has no descriptor left for memory that rank 0 shares.
void run_out_of_descriptors(const Group& group) {
  std::vector<int> taken;
  if (group.rank() == 1) {
    const rlimit few = {64, 64};
    check(setrlimit(RLIMIT_NOFILE, &few) == 0, "setrlimit");
    for (int fd = 0; (fd = open("/dev/null", O_RDONLY)) >= 0;) taken.push_back(fd);
  }
  try {
    group.allocate_shared(4096);
    say("shared without a descriptor");
  } catch (const OutOfMemory& error) {
    say(std::string("OutOfMemory: ") + error.what());
  }
  for (const int fd : taken) close(fd);
  group.allocate_shared(4096);
}

/// Rank 1 cannot join the new group, for want of descriptors, and ends.
void fail_to_split(const Group& group) {
  group.barrier();
  if (group.rank() == 1) {
    const rlimit none = {0, 0};
    check(setrlimit(RLIMIT_NOFILE, &none) == 0, "setrlimit");
  }
  group.split(0);
}

/// Rank 2 cannot join the new group, for want of descriptors, and goes on; the last rank has more
/// patience than the others.
void stay_out_of_split(const Group& group) {
  group.barrier();
  if (group.rank() == group.size() - 1) group.set_timeout(60);
  if (group.rank() != 2) {
    group.split(0);
    return;
  }
  const rlimit few = {64, 64};
  check(setrlimit(RLIMIT_NOFILE, &few) == 0, "setrlimit");
  while (open("/dev/null", O_RDONLY) >= 0) {
  }
  try {
    group.split(0);
    say("split without a descriptor");
  } catch (const Error&) {
    while (true) pause();
  }
}

/// The rank that is to share memory dies over it: no file of its may have a byte.
void die_while_sharing(const Group& group, int rank) {
  group.barrier();
  if (group.rank() == rank) {
    const rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    signal(SIGXFSZ, SIG_DFL);
    setrlimit(RLIMIT_FSIZE, &none);
  }
  group.allocate_shared(4096);
}

/// A program that closes what it has not opened; its descriptors of the others go with it.
void close_descriptors(const Group& group) {
  group.barrier();
  for (int fd = 3; fd < 256; ++fd) close(fd);
  const Tensor many = full({1 << 20}, 1.0);  // long enough to look after each other
  group.all_reduce(many);
  check(many.slice(0, 0, 1).item<int>() == group.size(), "sum without descriptors");
}

int run(const std::string& probe) {
  try {
    const Group group = init_process_group();
    if (probe == "look at threads") look_at_threads();
    if (probe == "leave early" && !leave_early(group)) return 0;
    if (probe == "fork" && !fork_child(group)) return 0;
    if (probe == "everything") use_everything(group);
    if (probe == "reduce forever") reduce_forever(group);
    if (probe == "stay away") stay_away(group);
    if (probe == "come when told") come_when_told(group);
    if (probe == "run until stop") run_until_stop(group);
    if (probe == "stop late") stop_late(group);
    if (probe == "be slow") be_slow(group);
    if (probe == "rank 3 comes late") come_late(group, 3);
    if (probe == "a host does not tell") {
      come_late(group, 3);
      while (group.rank() == group.size() - 1) pause();
      return 0;
    }
    if (probe == "all checks") pass_all_checks(group);
    if (probe == "send instead") send_instead(group);
    if (probe == "close descriptors") close_descriptors(group);
    if (probe == "fork children") fork_children(group);
    if (probe == "run out of descriptors") run_out_of_descriptors(group);
    if (probe == "fail to split") fail_to_split(group);
    if (probe == "stay out of split") stay_out_of_split(group);
    if (probe == "rank 0 dies sharing") die_while_sharing(group, 0);
    if (probe == "rank 2 dies sharing") die_while_sharing(group, 2);
    if (probe == "call differently") call_differently(group);
    if (probe == "split when told") split_when_told(group);
    if (probe == "leave at once") {
      leave_at_once(group);
      return 0;
    }
    group.barrier();
    return 0;
  } catch (const PeerLost& error) {
    say("PeerLost " + std::to_string(error.rank()) + ": " + error.what());
    return 10;
  } catch (const TimeoutError& error) {
    say(std::string("TimeoutError: ") + error.what());
    return 11;
  } catch (const DesyncError& error) {
    say(std::string("DesyncError: ") + error.what());
    return 12;
  } catch (const std::exception& error) {
    say(std::string("error: ") + error.what());
    return 13;
  }
}

}  // namespace

TEST_CASE("comm probe" * doctest::skip()) {
  const char* probe = std::getenv("WEFT_TEST_PROBE");
  REQUIRE(probe != nullptr);
  const int code = run(probe);
  std::fflush(stdout);
  _exit(code);
}
