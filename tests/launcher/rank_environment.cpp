// What a rank finds in its environment.
#include <doctest/doctest.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include <weft/dist/store/socket.hpp>
#include <weft/launcher/cpus.hpp>
#include <weft/launcher/launch.hpp>
#include <weft/tests/launcher/launched.hpp>

using namespace weft::test;
using namespace weft::launcher;

TEST_CASE("launcher: ranks find their place in the job") {
  const auto result = launch({"-n", "2", kProbe, "env=RANK", "env=LOCAL_RANK", "env=WORLD_SIZE",
                              "env=LOCAL_WORLD_SIZE", "env=MASTER_ADDR", "env=WEFT_TOKEN_FILE"},
                             {"RANK=9", "WORLD_SIZE=77", "WEFT_TOKEN_FILE=/no/such/file"});
  CHECK(result.exit_code == 0);
  for (const char* line :
       {"[0] RANK=0\n", "[1] RANK=1\n", "[0] LOCAL_RANK=0\n", "[1] LOCAL_RANK=1\n",
        "[0] WORLD_SIZE=2\n", "[1] WORLD_SIZE=2\n", "[1] LOCAL_WORLD_SIZE=2\n",
        "[0] MASTER_ADDR=127.0.0.1\n", "[0] WEFT_TOKEN_FILE is not set\n"})
    CHECK_MESSAGE(result.out.find(line) != std::string::npos, line);
}

TEST_CASE("launcher: each job has its own token, id and port; the token is in no argument list") {
  Launched first(
      {"-n", "2", kProbe, "env=WEFT_TOKEN", "env=WEFT_JOB_ID", "env=WEFT_STORE", "pid", "input"});
  Launched second(
      {"-n", "2", kProbe, "env=WEFT_TOKEN", "env=WEFT_JOB_ID", "env=WEFT_STORE", "pid", "input"});
  first.wait_for("pid ", 2);
  second.wait_for("pid ", 2);
  std::vector<std::string> tokens;
  for (const Launched* job : {&first, &second})
    for (const char* variable : {"WEFT_TOKEN", "WEFT_JOB_ID", "WEFT_STORE"}) {
      const std::regex pattern(std::string("\\[[01]\\] ") + variable + "=(.*)\n");
      std::set<std::string> values;
      for (std::sregex_iterator it(job->out().begin(), job->out().end(), pattern), end; it != end;
           ++it)
        values.insert((*it)[1]);
      REQUIRE(values.size() == 1);  // the same in both ranks
      tokens.push_back(*values.begin());
    }
  CHECK(std::regex_match(tokens[0], std::regex("[0-9a-f]{64}")));
  CHECK(std::regex_match(tokens[2], std::regex("tcp://127\\.0\\.0\\.1:[0-9]+")));
  for (int i = 0; i < 3; ++i)
    CHECK(tokens[static_cast<size_t>(i)] != tokens[static_cast<size_t>(i + 3)]);
  for (const pid_t pid : first.left_behind()) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/cmdline", std::ios::binary);
    const std::string line((std::istreambuf_iterator<char>(file)),
                           std::istreambuf_iterator<char>());
    CHECK(line.size() > 0);
    CHECK(line.find(tokens[0]) == std::string::npos);
  }
  CHECK(first.finish().exit_code == 0);
  CHECK(second.finish().exit_code == 0);
}

TEST_CASE("launcher: a job of one host has the port that it asks for, or another one and says so") {
  int port = 0;
  weft::dist::detail::Fd taken = weft::dist::detail::listen_on("127.0.0.1", port);
  const std::string asked = std::to_string(port);
  const auto other = launch({"-n", "2", "--main_process_port", asked, kProbe, "env=MASTER_PORT"});
  CHECK(other.exit_code == 0);
  std::smatch found;
  REQUIRE(std::regex_match(other.err, found,
                           std::regex("launcher: port " + asked +
                                      " is taken on this host; the job's store had port ([0-9]+)"
                                      "\n")));
  CHECK(found[1] != asked);
  CHECK(count_of(other.out, "] MASTER_PORT=" + found[1].str() + "\n") == 2);
  const auto inherited = launch({"-n", "2", kProbe}, {"MASTER_PORT=" + asked});
  CHECK(inherited.err.empty());
  taken.reset();
  const auto same =
      launch({"-n", "2", "--rdzv_endpoint", "localhost:" + asked, kProbe, "env=MASTER_PORT"});
  CHECK(same.err.empty());
  CHECK(count_of(same.out, "] MASTER_PORT=" + asked + "\n") == 2);
}

TEST_CASE("launcher: ranks share the CPUs, a number given by the user stays") {
  const auto threads = [](const char* ranks, const char* variable) {
    const auto result = launch({"-n", ranks, kProbe, "env=WEFT_NUM_THREADS"}, {variable});
    std::smatch match;
    const std::regex pattern("WEFT_NUM_THREADS=([0-9]+)");
    return std::regex_search(result.out, match, pattern) ? std::stoi(match[1]) : -1;
  };
  CHECK(threads("1", "A=b") == allowed_cpus());
  CHECK(threads("2", "A=b") == std::max(1, allowed_cpus() / 2));
  CHECK(threads("64", "A=b") == std::max(1, allowed_cpus() / 64));
  CHECK(threads("2", "WEFT_NUM_THREADS=3") == 3);
  CHECK(threads("2", "OMP_NUM_THREADS=5") == 5);
  CHECK(threads("2", "OMP_NUM_THREADS=4,2") == std::max(1, allowed_cpus() / 2));
  const std::vector<std::string> both = {"-n", "1", kProbe, "env=WEFT_NUM_THREADS",
                                         "env=OMP_NUM_THREADS"};
  CHECK(launch(both, {"WEFT_NUM_THREADS=3"}).out == "WEFT_NUM_THREADS=3\nOMP_NUM_THREADS=3\n");
  CHECK(launch(both, {"WEFT_NUM_THREADS=3", "OMP_NUM_THREADS=2"}).out ==
        "WEFT_NUM_THREADS=3\nOMP_NUM_THREADS=2\n");
}

TEST_CASE("launcher: timeouts by flag reach the ranks") {
  const auto result = launch({"--collective_timeout", "60", "--join-timeout", "7", kProbe,
                              "env=WEFT_COLLECTIVE_TIMEOUT", "env=WEFT_JOIN_TIMEOUT"},
                             {"WEFT_JOIN_TIMEOUT=9"});
  CHECK(result.out == "WEFT_COLLECTIVE_TIMEOUT=60\nWEFT_JOIN_TIMEOUT=7\n");
}

TEST_CASE("launcher: ranks inherit the crash records of its descriptors, and the limit as it was") {
  // What the test itself was given beyond the standard streams passes through.
  const std::string without = run_process({kProbe, "fds"}).out;
  const auto result = launch({"-n", "3", kProbe, "fds"});
  CHECK(count_of(result.out, "] " + without) == 3);
  const auto limit =
      run_process({"sh", "-c", "ulimit -S -n 100; '" + kLauncher + "' -n 2 sh -c 'ulimit -S -n'"});
  CHECK(count_of(limit.out, "] 100\n") == 2);
}

TEST_CASE("launcher: ranks meet through the launcher's store") {
  const auto result = launch({"-n", "8", kProbe, "only=3", "set=from 3", "all", "get=from 3"});
  CHECK(result.exit_code == 0);
  CHECK(count_of(result.out, "] from 3=1\n") == 8);
}

TEST_CASE("rank_environment: the job's variables replace what was there, all else stays") {
  const auto environment =
      rank_environment({"HOME=/home/me", "RANK=5", "EMPTY=", "odd"},
                       {.ranks = 4, .environment = {"WEFT_JOIN_TIMEOUT=3"}, .command = {"p"}},
                       {.id = "job", .token = "secret", .host = "127.0.0.1", .port = 4711}, 2, 6);
  const auto has = [&](const char* entry) {
    return std::count(environment.begin(), environment.end(), entry) == 1;
  };
  for (const char* entry :
       {"HOME=/home/me", "EMPTY=", "odd", "RANK=2", "LOCAL_RANK=2", "WORLD_SIZE=4",
        "LOCAL_WORLD_SIZE=4", "MASTER_PORT=4711", "WEFT_STORE=tcp://127.0.0.1:4711",
        "WEFT_JOB_ID=job", "WEFT_TOKEN=secret", "WEFT_NUM_THREADS=6", "WEFT_JOIN_TIMEOUT=3"})
    CHECK_MESSAGE(has(entry), entry);
  CHECK_FALSE(has("RANK=5"));
}
