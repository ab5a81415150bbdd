// Groups of processes that take each other for other hosts: gloo over loopback.
#include <doctest/doctest.h>
#include <signal.h>

#include <chrono>
#include <functional>
#include <optional>
#include <regex>
#include <string>
#include <thread>

#include <weft/core/base/error.hpp>
#include <weft/dist/comm/group.hpp>
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

bool has_gloo() {
  const Environment environment({{"WORLD_SIZE", "4"},
                                 {"RANK", "1"},
                                 {"LOCAL_WORLD_SIZE", "2"},
                                 {"WEFT_STORE", std::nullopt},
                                 {"MASTER_ADDR", std::nullopt},
                                 {"MASTER_PORT", std::nullopt}});
  return text_of<Error>([] { init_process_group(); }).find("built without it") == std::string::npos;
}

}  // namespace

#define WEFT_NEED_GLOO() \
  if (!has_gloo()) WEFT_SKIP("weft was built without gloo")

TEST_CASE("hosts: every collective, on even and uneven hosts") {
  WEFT_NEED_GLOO();
  for (const std::vector<int>& layout :
       std::vector<std::vector<int>>{{0, 0, 1, 1}, {0, 1, 1}, {0, 1, 2}}) {
    CAPTURE(layout.size());
    RankProcesses ranks("all checks", layout, {"WEFT_SOCKET_IFNAME=lo"});
    for (size_t r = 0; r < layout.size(); ++r) {
      const int code = ranks.wait(static_cast<int>(r));
      CHECK_MESSAGE(code == 0, ranks.output(static_cast<int>(r)));
    }
  }
}

TEST_CASE("hosts: who dies sharing memory goes by its rank in the whole group") {
  WEFT_NEED_GLOO();
  RankProcesses ranks("rank 2 dies sharing", {0, 0, 1, 1}, {"WEFT_SOCKET_IFNAME=lo"});
  for (const int r : {0, 1, 3}) {
    CHECK_MESSAGE(ranks.wait(r) == 10, ranks.output(r));
    CHECK_MESSAGE(ranks.output(r).find("PeerLost 2: ") != std::string::npos, ranks.output(r));
  }
}

TEST_CASE("hosts: ranks that do not join a part of the group go by their numbers in the job") {
  WEFT_NEED_GLOO();
  RankProcesses ranks("stay out of split", {0, 1, 1, 1}, {"WEFT_COLLECTIVE_TIMEOUT=2"});
  CHECK_MESSAGE(ranks.wait(1) == 11, ranks.output(1));
  CHECK_MESSAGE(
      ranks.output(1).find("of 3 ranks on this host, rank 2 of group 'world' did not join "
                           "in time") != std::string::npos,
      ranks.output(1));
  CHECK_MESSAGE(ranks.wait(3) == 10, ranks.output(3));
  CHECK_MESSAGE(ranks.output(3).find("PeerLost 1: group 'world/") != std::string::npos,
                ranks.output(3));
  CHECK_MESSAGE(ranks.output(3).find("': rank 1 of group 'world' ") != std::string::npos,
                ranks.output(3));
}

TEST_CASE("hosts: kill -9 reaches all, with what the launcher says of it") {
  WEFT_NEED_GLOO();
  for (const int victim : {0, 3}) {
    CAPTURE(victim);
    RankProcesses ranks("reduce forever", {0, 0, 1, 1});
    for (int r = 0; r < 4; ++r) REQUIRE(ranks.wait_for_line(r, "looping"));
    const std::string text = "rank " + std::to_string(victim) + " (pid 7) killed by SIGKILL";
    ranks.server().publish(rank_exit_key(victim), text);
    ranks.kill(victim, SIGKILL);
    const double seconds = seconds_of([&] {
      for (int r = 0; r < 4; ++r)
        if (r != victim) CHECK_MESSAGE(ranks.wait(r) == 10, ranks.output(r));
    });
    CHECK(seconds < 5 * kSlower);
    for (int r = 0; r < 4; ++r) {
      const std::string& output = ranks.output(r);
      if (r != victim)
        CHECK_MESSAGE(
            output.find("PeerLost " + std::to_string(victim) + ": all_reduce") != std::string::npos,
            output);
    }
  }
}

TEST_CASE("hosts: what launchers publish ends every collective, wherever it waits") {
  WEFT_NEED_GLOO();
  RankProcesses ranks("stay away", {0, 0, 1});
  REQUIRE(ranks.wait_for_line(2, "away"));
  ranks.server().publish("launch/failure", "rank 9 (pid 7) on host z exited with 3");
  const double seconds = seconds_of([&] {
    for (const int r : {0, 1}) CHECK(ranks.wait(r) == 10);
  });
  CHECK(seconds < 5 * kSlower);
  CHECK_MESSAGE(
      ranks.output(0).find("PeerLost -1: group 'world': rank 9 (pid 7) on host z exited with 3") !=
          std::string::npos,
      ranks.output(0));

  // Whose the failure is, where a rank of this job is named: as launchers do, and as hosts do.
  for (const std::string text : {"rank 2 (pid 7) on host z exited with 3", "2\nhost z is silent"}) {
    RankProcesses named("stay away", {0, 0, 1});
    REQUIRE(named.wait_for_line(2, "away"));
    named.server().publish("launch/failure", text);
    for (const int r : {0, 1}) {
      CHECK(named.wait(r) == 10);
      const std::regex words(
          "PeerLost 2: rank 2 of group 'world' on host [^ ]+ is gone: " +
          std::regex_replace(text.substr(text.find('\n') + 1), std::regex("[()]"), "\\$&") + "\n");
      CHECK_MESSAGE(std::regex_search(named.output(r), words), named.output(r));
    }
  }
}

TEST_CASE("hosts: the loss of the store, as when the network is down, ends every collective") {
  WEFT_NEED_GLOO();
  RankProcesses ranks("stay away", {0, 1});
  REQUIRE(ranks.wait_for_line(1, "away"));
  ranks.drop_server();
  const double seconds = seconds_of([&] { CHECK(ranks.wait(0) == 10); });
  CHECK(seconds < 10 * kSlower);
  CHECK_MESSAGE(ranks.output(0).find("the job's store has been out of reach") != std::string::npos,
                ranks.output(0));
}

TEST_CASE("hosts: a host that falls silent is named") {
  WEFT_NEED_GLOO();
  RankProcesses ranks("stay away", {0, 0, 1});
  REQUIRE(ranks.wait_for_line(2, "away"));
  ranks.kill(2, SIGSTOP);
  const double seconds = seconds_of([&] {
    for (const int r : {0, 1}) CHECK(ranks.wait(r) == 10);
  });
  CHECK(seconds < 10 * kSlower);
  for (const int r : {0, 1})
    CHECK_MESSAGE(
        ranks.output(r).find("(rank 2) has given no sign of life for 7 s") != std::string::npos,
        ranks.output(r));
  for (const int r : {0, 1})
    CHECK_MESSAGE(ranks.output(r).find("PeerLost 2: ") != std::string::npos, ranks.output(r));
}

TEST_CASE("hosts: a host whose first rank has left is not taken for silent") {
  WEFT_NEED_GLOO();
  RankProcesses ranks("leave early", {0, 0, 1});
  for (int r = 0; r < 3; ++r) CHECK_MESSAGE(ranks.wait(r) == 0, ranks.output(r));
}

TEST_CASE("hosts: WEFT_STATS prints one table of all hosts, ranks by their numbers in the group") {
  WEFT_NEED_GLOO();
  RankProcesses ranks("rank 3 comes late", {0, 0, 1, 1, 2}, {"WEFT_STATS=1"});
  for (int r = 0; r < 5; ++r) CHECK_MESSAGE(ranks.wait(r) == 0, ranks.output(r));
  const std::string& text = ranks.output(0);
  CAPTURE(text);
  const size_t heading = text.find("group 'world': how late each rank came to ");
  REQUIRE(heading != std::string::npos);
  CHECK(text.find(" collectives, after the first one on its host; ranks 0 to 4 of 5\n", heading) !=
        std::string::npos);
  for (const char* row : {"\n     0  ", "\n     1  ", "\n     2  ", "\n     3  "})
    CHECK_MESSAGE(text.find(row, heading) != std::string::npos, row);
  CHECK(text.find("\n     4  alone on its host\n", heading) != std::string::npos);
  for (int r = 1; r < 5; ++r)
    CHECK_MESSAGE(ranks.output(r).find("how late") == std::string::npos, ranks.output(r));
}

TEST_CASE("hosts: a host that does not tell its statistics is named, and holds up nobody") {
  WEFT_NEED_GLOO();
  RankProcesses ranks("a host does not tell", {0, 0, 1}, {"WEFT_STATS=1"});
  const double seconds = seconds_of([&] {
    for (const int r : {0, 1}) CHECK_MESSAGE(ranks.wait(r) == 0, ranks.output(r));
  });
  CHECK(seconds < 10 * kSlower);
  const std::string& text = ranks.output(0);
  CHECK_MESSAGE(text.find("after the first one on its host; ranks 0, 1 of 3; not told in time by "
                          "host ") != std::string::npos,
                text);
}

TEST_CASE("hosts: a child by fork that ends does nothing to its parent's groups") {
  WEFT_NEED_GLOO();
  for (const std::vector<int>& layout : std::vector<std::vector<int>>{{0, 1}, {0, 0, 1}}) {
    CAPTURE(layout.size());
    RankProcesses ranks("fork", layout);
    for (size_t r = 0; r < layout.size(); ++r)
      CHECK_MESSAGE(ranks.wait(static_cast<int>(r)) == 0, ranks.output(static_cast<int>(r)));
  }
}

TEST_CASE("hosts: the library's threads leave signals to the program") {
  WEFT_NEED_GLOO();
  RankProcesses ranks("look at threads", {0, 1});
  for (int r = 0; r < 2; ++r) CHECK_MESSAGE(ranks.wait(r) == 0, ranks.output(r));
}

TEST_CASE("hosts: a missing rank is named on all hosts when the deadline passes") {
  WEFT_NEED_GLOO();
  RankProcesses ranks("stay away", {0, 0, 1, 1}, {"WEFT_COLLECTIVE_TIMEOUT=1"});
  REQUIRE(ranks.wait_for_line(3, "away"));
  for (const int r : {0, 1, 2}) {
    CHECK(ranks.wait(r) == 11);
    const std::string& text = ranks.output(r);
    CHECK_MESSAGE(text.find("missing: rank 3 (pid ") != std::string::npos, text);
  }
}

TEST_CASE("hosts: different calls are an error on every rank, with all calls") {
  WEFT_NEED_GLOO();
  RankProcesses ranks("call differently", {0, 0, 1});
  RankProcesses sender("send instead", {0, 0, 1});
  for (int r = 0; r < 3; ++r) {
    CHECK(ranks.wait(r) == 12);
    CHECK_MESSAGE(ranks.output(r).find("rank 1 called broadcast #2 (f32 [2, 3], from rank 0)") !=
                      std::string::npos,
                  ranks.output(r));
    CHECK(sender.wait(r) == 12);
    CHECK_MESSAGE(sender.output(r).find("rank 0 called all_reduce #2 (f32 [4], sum); rank 2 called "
                                        "send #1 (f32 [4], to rank 0)") != std::string::npos,
                  sender.output(r));
  }
}

TEST_CASE("hosts: what was sent before a rank left arrives, however late it is taken") {
  WEFT_NEED_GLOO();
  RankProcesses ranks("leave at once", {0, 1});
  for (const int r : {0, 1}) REQUIRE(ranks.wait_for_line(r, "ready"));
  // Rank 1 waits in the call by now, or it will find all of it there when it comes to it.
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  ranks.kill(1, SIGSTOP);
  ranks.kill(0, SIGUSR1);
  CHECK_MESSAGE(ranks.wait(0) == 0, ranks.output(0));
  ranks.kill(1, SIGCONT);
  CHECK_MESSAGE(ranks.wait(1) == 10, ranks.output(1));
  // The next call misses it, by a connection that was closed in good order: a reset one would have
  // thrown away what the system had not sent yet.
  CHECK_MESSAGE(ranks.output(1).find("PeerLost 0: barrier #4: ") != std::string::npos,
                ranks.output(1));
  CHECK_MESSAGE(ranks.output(1).find("reset") == std::string::npos, ranks.output(1));
}

TEST_CASE("hosts: where one process cannot connect, all try again together, three times") {
  WEFT_NEED_GLOO();
  for (const std::string stage : {"listening", "connected"})
    for (const int failures : {2, 3}) {
      CAPTURE(stage);
      CAPTURE(failures);
      RankProcesses ranks("split when told", {0, 0, 1});
      for (int r = 0; r < 3; ++r) REQUIRE(ranks.wait_for_line(r, "ready"));
      for (int attempt = 0; attempt < failures; ++attempt)
        ranks.server().publish("gloo/world/3.0/lane0/" + std::to_string(attempt) + "/" + stage,
                               "the process at 10.0.0.9: no route");
      for (int r = 0; r < 3; ++r) ranks.kill(r, SIGUSR1);
      for (int r = 0; r < 3; ++r)
        CHECK_MESSAGE((ranks.wait(r) == 0) == (failures < 3), ranks.output(r));
      // Rank 1 has nothing to connect; it learns why the others cannot.
      for (int r = 0; failures == 3 && r < 3; ++r)
        CHECK_MESSAGE(
            ranks.output(r).find("error: group 'world/3.0/lane0': the hosts cannot connect "
                                 "to each other: the process at 10.0.0.9: no route\n") !=
                std::string::npos,
            ranks.output(r));
      // A job may split off groups as long as it runs. Where it fails, one rank may learn that from
      // another before it has done with the last attempt.
      if (failures < 3) CHECK(ranks.delete_keys("gloo/") == 0);
    }
}

TEST_CASE("hosts: an interface that is not there") {
  WEFT_NEED_GLOO();
  RankProcesses ranks("everything", {0, 1}, {"WEFT_SOCKET_IFNAME=nosuch0", "WEFT_JOIN_TIMEOUT=5"});
  CHECK(ranks.wait(0) == 13);
  CHECK_MESSAGE(ranks.output(0).find("cannot use interface 'nosuch0' (WEFT_SOCKET_IFNAME sets the "
                                     "interface)") != std::string::npos,
                ranks.output(0));
}
