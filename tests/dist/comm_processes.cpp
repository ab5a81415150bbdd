// Groups of processes: joining, death, silence, disagreement.
#include <doctest/doctest.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <thread>

#include <weft/core/base/error.hpp>
#include <weft/tests/dist/ranks.hpp>
#include <weft/tests/support/environment.hpp>
#include <weft/tests/support/errors.hpp>
#include <weft/tests/support/skip.hpp>

using namespace weft;
using namespace weft::dist;
using namespace weft::test;

namespace {

#ifdef WEFT_SANITIZED
constexpr double kSlower = 10;
#else
constexpr double kSlower = 1;
#endif

double seconds_of(const std::function<void()>& action) {
  const auto start = std::chrono::steady_clock::now();
  action();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::set<std::string> shared_files() {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator("/dev/shm"))
    names.insert(entry.path().filename());
  return names;
}

/// The processes' maps of memory made by groups: all of it is theirs alone.
size_t mappings_of(pid_t pid) {
  std::ifstream maps("/proc/" + std::to_string(pid) + "/maps");
  size_t count = 0;
  for (std::string line; std::getline(maps, line);)
    if (line.find("memfd:weft") != std::string::npos) ++count;
  return count;
}

}  // namespace

TEST_CASE("processes: every collective, on 1, 2 and 4 of them, and nothing is left behind") {
  const std::set<std::string> before = shared_files();
  for (const int size : {1, 2, 4}) {
    CAPTURE(size);
    RankProcesses ranks("everything", size);
    for (int r = 0; r < size; ++r) {
      const int code = ranks.wait(r);
      CHECK_MESSAGE(code == 0, ranks.output(r));
    }
  }
  CHECK(shared_files() == before);
}

TEST_CASE("processes: kill -9 in the middle of all_reduce reaches the others within a second") {
  const std::set<std::string> before = shared_files();
  RankProcesses ranks("reduce forever", 4);
  for (int r = 0; r < 4; ++r) REQUIRE(ranks.wait_for_line(r, "looping"));
  CHECK(mappings_of(ranks.pid(0)) == 1);
  ranks.kill(2, SIGKILL);
  const double seconds = seconds_of([&] {
    for (const int r : {0, 1, 3}) CHECK(ranks.wait(r) == 10);
  });
  CHECK(seconds < kSlower);
  CHECK(ranks.wait(2) == 128 + SIGKILL);
  for (const int r : {0, 1, 3}) {
    CHECK(ranks.output(r).find("PeerLost 2: all_reduce: rank 2 of group 'world' (pid ") !=
          std::string::npos);
    CHECK(ranks.output(r).find("is gone; its last call was all_reduce #") != std::string::npos);
  }
  CHECK(shared_files() == before);
}

TEST_CASE("processes: kill -9 outside of any collective") {
  RankProcesses ranks("stay away", 3);
  REQUIRE(ranks.wait_for_line(2, "away"));
  ranks.kill(2, SIGKILL);
  const double seconds = seconds_of([&] {
    for (const int r : {0, 1}) CHECK(ranks.wait(r) == 10);
  });
  CHECK(seconds < kSlower);
  CHECK(ranks.output(0).find("PeerLost 2: ") != std::string::npos);
}

TEST_CASE("processes: a stopped rank is named when the deadline passes, in one report") {
  RankProcesses ranks("stay away", 3, {"WEFT_COLLECTIVE_TIMEOUT=1"});
  REQUIRE(ranks.wait_for_line(2, "away"));
  ranks.kill(2, SIGSTOP);
  size_t printed = 0;
  for (int r = 0; r < 2; ++r) {
    CHECK(ranks.wait(r) == 11);
    const std::string text = ranks.output(r);
    for (const std::string part :
         {"TimeoutError: all_reduce #3 (f32 [10], sum): not complete after 1 s",
          "arrived: ranks 0, 1; missing: rank 2 (pid ", ", stopped; last completed barrier #2, "})
      CHECK_MESSAGE(text.find(part) != std::string::npos, text);
    printed += text.find("weft error") != std::string::npos ? 1 : 0;
  }
  CHECK(printed == 1);
}

TEST_CASE("processes: time in which the waiting rank was stopped itself is none that it waited") {
  constexpr auto kStopped = std::chrono::seconds(5);       // beyond the limit
  constexpr auto kLooks = std::chrono::milliseconds(200);  // enough for several looks around
  RankProcesses ranks("come when told", 2, {"WEFT_COLLECTIVE_TIMEOUT=4"});
  REQUIRE(ranks.wait_for_line(1, "away"));
  REQUIRE(ranks.wait_for_line(0, "waits"));
  std::this_thread::sleep_for(kLooks);
  for (const int r : {0, 1}) ranks.kill(r, SIGSTOP);
  std::this_thread::sleep_for(kStopped);
  // It wakes before the rank that it waits for.
  ranks.kill(0, SIGCONT);
  std::this_thread::sleep_for(kLooks);
  ranks.kill(1, SIGCONT);
  ranks.kill(1, SIGUSR1);
  for (const int r : {0, 1}) CHECK_MESSAGE(ranks.wait(r) == 0, ranks.output(r));
}

TEST_CASE("processes: a rank that is slow to come is named by its lateness") {
  RankProcesses ranks("be slow", 3);
  for (int r = 0; r < 3; ++r) CHECK(ranks.wait(r) == 0);
  CHECK_MESSAGE(ranks.output(0).find("slowest: rank 1\n") != std::string::npos, ranks.output(0));
}

TEST_CASE("processes: WEFT_STATS prints who came late, once") {
  RankProcesses ranks("be slow", 2, {"WEFT_STATS=1"});
  for (int r = 0; r < 2; ++r) CHECK(ranks.wait(r) == 0);
  const std::string text = ranks.output(0);
  CHECK_MESSAGE(text.find("group 'world': how late each rank came to 1") != std::string::npos,
                text);
  CHECK_MESSAGE(text.find("\n     1  ") != std::string::npos, text);
  CHECK_MESSAGE(ranks.output(1).find("how late") == std::string::npos, ranks.output(1));
}

TEST_CASE("processes: a signal to one rank stops all at the same step") {
  for (const int signal : {SIGTERM, SIGUSR1}) {
    RankProcesses ranks("run until stop", 3);
    REQUIRE(ranks.wait_for_line(1, "looping"));
    ranks.kill(1, signal);
    for (int r = 0; r < 3; ++r) {
      CHECK_MESSAGE(ranks.wait(r) == 0, ranks.output(r));
      const bool own = r == 1 && signal == SIGUSR1;
      const std::string line = own ? "handler called 1\n" : "handler called 0\n";
      CHECK_MESSAGE(ranks.output(r).find(line) != std::string::npos, ranks.output(r));
    }
  }
}

TEST_CASE("processes: a second signal ends a rank that does not come to its end") {
  RankProcesses ranks("stop late", 2);
  REQUIRE(ranks.wait_for_line(0, "looping"));
  ranks.kill(0, SIGTERM);
  REQUIRE(ranks.wait_for_line(0, "stopped; own handler called 0"));
  ranks.kill(0, SIGTERM);
  CHECK(ranks.wait(0) == 128 + SIGTERM);
}

TEST_CASE("processes: different collectives are an error on every rank, with all calls") {
  RankProcesses ranks("call differently", 3);
  for (int r = 0; r < 3; ++r) {
    CHECK(ranks.wait(r) == 12);
    const std::string text = ranks.output(r);
    CHECK_MESSAGE(text.find("ranks 0, 2 called all_reduce #2 (f32 [2, 3], sum); rank 1 called "
                            "broadcast #2 (f32 [2, 3], from rank 0)") != std::string::npos,
                  text);
  }
}

TEST_CASE("processes: a forked child that ends takes nobody along") {
  RankProcesses ranks("fork children", 2);
  for (int r = 0; r < 2; ++r) CHECK_MESSAGE(ranks.wait(r) == 0, ranks.output(r));
}

TEST_CASE("processes: a program that closes all descriptors takes nobody for dead") {
  RankProcesses ranks("close descriptors", 3);
  for (int r = 0; r < 3; ++r) CHECK_MESSAGE(ranks.wait(r) == 0, ranks.output(r));
}

TEST_CASE("processes: ranks that do not join are named") {
  {
    RankProcesses ranks("everything", 1,
                        {"WORLD_SIZE=4", "LOCAL_WORLD_SIZE=4", "WEFT_JOIN_TIMEOUT=1"});
    CHECK(ranks.wait(0) == 11);
    CHECK_MESSAGE(ranks.output(0).find("TimeoutError: group 'world': of 4 ranks, ranks 1 to 3 did "
                                       "not join in time; start all of them, or raise "
                                       "WEFT_JOIN_TIMEOUT") != std::string::npos,
                  ranks.output(0));
  }
  {
    RankProcesses ranks("everything", 1,
                        {"WORLD_SIZE=2", "GROUP_WORLD_SIZE=2", "WEFT_JOIN_TIMEOUT=1"});
    const int code = ranks.wait(0);
    const std::string text = ranks.output(0);
    CHECK_MESSAGE(
        (code == 13 || text.find("TimeoutError: group 'world': of 2 ranks, rank 1 did not "
                                 "join in time; start") != std::string::npos),
        text);  // 13: without gloo
  }
}

TEST_CASE("processes: a rank without room for a descriptor says so, and all go on") {
  RankProcesses ranks("run out of descriptors", 3);
  for (int r = 0; r < 3; ++r) {
    CHECK_MESSAGE(ranks.wait(r) == 0, ranks.output(r));
    const std::string text =
        r == 1 ? "OutOfMemory: group 'world': rank 1 has no room for the descriptor of shared "
                 "memory; raise ulimit -n"
               : "OutOfMemory: allocate_shared: another rank cannot map its shared memory";
    CHECK_MESSAGE(ranks.output(r).find(text) != std::string::npos, ranks.output(r));
  }
}

TEST_CASE("processes: who dies sharing memory is lost to all") {
  RankProcesses ranks("rank 0 dies sharing", 3);
  for (const int r : {1, 2}) {
    CHECK_MESSAGE(ranks.wait(r) == 10, ranks.output(r));
    CHECK_MESSAGE(ranks.output(r).find("PeerLost 0: ") != std::string::npos, ranks.output(r));
  }
  CHECK(ranks.wait(0) == 128 + SIGXFSZ);
}

TEST_CASE("processes: who ends instead of joining a part of the group is lost to it at once") {
  RankProcesses ranks("fail to split", 3);
  CHECK_MESSAGE(ranks.wait(1) == 13, ranks.output(1));
  for (const int r : {0, 2}) CHECK_MESSAGE(ranks.wait(r) == 10, ranks.output(r));
  CHECK_MESSAGE(ranks.output(0).find("PeerLost 1: group 'world/") != std::string::npos,
                ranks.output(0));
}

TEST_CASE("processes: a user without privileges may pass few descriptors at once") {
  if (geteuid() != 0) WEFT_SKIP("becoming another user needs root");
  const std::string limits = "setpriv --reuid=65534 --clear-groups prlimit --nofile=64:64 ";
  if (std::system((limits + "test -x " + std::filesystem::read_symlink("/proc/self/exe").string())
                      .c_str()) != 0)
    WEFT_SKIP("no setpriv and prlimit, or the other user cannot run this binary");
  // The first rank passes 16 descriptors to each of 15 others.
  RankProcesses ranks("join", 16,
                      {"setpriv", "--reuid=65534", "--clear-groups", "prlimit", "--nofile=64:64"});
  for (int r = 0; r < 16; ++r) CHECK_MESSAGE(ranks.wait(r) == 0, ranks.output(r));
}

TEST_CASE("init_process_group: alone, and with variables that make no sense") {
  const auto with = [](const std::string& size, const std::optional<std::string>& rank,
                       const std::optional<std::string>& local_size) {
    return Environment({{"WORLD_SIZE", size},
                        {"RANK", rank},
                        {"LOCAL_WORLD_SIZE", local_size},
                        {"WEFT_STORE", std::nullopt},
                        {"WEFT_TOKEN", std::nullopt},
                        {"MASTER_ADDR", std::nullopt},
                        {"MASTER_PORT", std::nullopt}});
  };
  {
    const auto environment = with("1", std::nullopt, std::nullopt);
    const Group group = init_process_group();
    CHECK(group.size() == 1);
    CHECK(group.rank() == 0);
    CHECK(group.name() == "world");
  }
  {
    const auto environment = with("2", "2", std::nullopt);
    check_error<ArgumentError>("init_group_rank", [] { init_process_group(); });
  }
  {
    const auto environment = with("2", std::nullopt, std::nullopt);
    check_error<ArgumentError>("init_group_no_rank", [] { init_process_group(); });
  }
  {
    // Several hosts need gloo, if weft was built with it, and then a store.
    const auto environment = with("4", "1", "2");
    const std::string text = text_of<Error>([] { init_process_group(); });
    CHECK_MESSAGE((text.find("was built without it; install libgloo-dev") != std::string::npos ||
                   text.find("nothing says where the ranks meet") != std::string::npos),
                  text);
  }
}
