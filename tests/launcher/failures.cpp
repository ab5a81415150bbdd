// Ranks that fail: the first line, the exit code, and that nothing is left behind.
#include <doctest/doctest.h>

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <random>
#include <regex>
#include <string>
#include <vector>

#include <weft/launcher/processes.hpp>
#include <weft/tests/launcher/launched.hpp>
#include <weft/tests/support/errors.hpp>
#include <weft/tests/support/skip.hpp>
#include <weft/tests/support/temp_dir.hpp>

using namespace weft::test;

namespace {

/// "rank 2 (pid 123) killed by SIGKILL" with the number taken out.
std::string first_line(const ProcessResult& result) {
  const auto own = own_lines(result.err);
  if (own.empty()) return "";
  return std::regex_replace(own[0], std::regex("pid [0-9]+"), "pid N");
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

TEST_CASE("launcher: success of all ranks is silent and 0") {
  for (const char* ranks : {"1", "2", "5"}) {
    const auto result = launch({"-n", ranks, kProbe});
    CHECK(result.exit_code == 0);
    CHECK(result.out.empty());
    CHECK(result.err.empty());
  }
}

TEST_CASE("launcher: the first failed rank is named first, its code is the launcher's") {
  struct Row {
    const char* action;
    int code;
    const char* line;
  };
  const Row rows[] = {
      {"exit=7", 7, "rank 2 (pid N) exited with 7"},
      {"exit=1", 1, "rank 2 (pid N) exited with 1"},
      {"exit=255", 255, "rank 2 (pid N) exited with 255"},
      {"exit=127", 127, "rank 2 (pid N) exited with 127"},
      {"signal=KILL", 137, "rank 2 (pid N) killed by SIGKILL"},
      {"signal=SEGV", 139, "rank 2 (pid N) killed by SIGSEGV"},
      {"signal=ABRT", 134, "rank 2 (pid N) killed by SIGABRT"},
      {"signal=TERM", 143, "rank 2 (pid N) killed by SIGTERM"},
      {"signal=USR1", 138, "rank 2 (pid N) killed by SIGUSR1"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.action);
    const auto result =
        launch({"-n", "4", kProbe, "err=a line", "only=2", row.action, "all", "forever"});
    CHECK(result.exit_code == row.code);
    CHECK(first_line(result) == row.line);
    CHECK(count_of(result.err, "killed by SIGTERM") == (row.code == 143 ? 4 : 3));
  }
}

TEST_CASE("launcher: one rank alone fails the same way") {
  const auto result = launch({kProbe, "err=its own words", "exit=3"});
  CHECK(result.exit_code == 3);
  CHECK(result.err.find("its own words\nrank 0 (pid ") == 0);
  CHECK(result.err.find("exited with 3\n") != std::string::npos);
}

TEST_CASE("launcher: kill -9 from outside ends the job at once, nothing is left") {
  Launched job({"-n", "4", kProbe, "pid", "forever"});
  job.wait_for("pid ", 4);
  const auto start = std::chrono::steady_clock::now();
  const pid_t victim = job.pids("\\[3\\] pid").at(0);
  REQUIRE(::kill(victim, SIGKILL) == 0);
  const auto result = job.finish();
  CHECK(seconds_since(start) < 2);
  CHECK(result.exit_code == 137);
  CHECK(own_lines(result.err).at(0) ==
        "rank 3 (pid " + std::to_string(victim) + ") killed by SIGKILL");
}

TEST_CASE("launcher: a rank that ends early with 0 is no failure") {
  const auto result =
      launch({"-n", "3", kProbe, "only=0", "exit=0", "all", "get=rank_exit/0", "out=done"});
  CHECK(result.exit_code == 0);
  CHECK(count_of(result.out, "done") == 2);
  CHECK(count_of(result.out, "rank_exit/0=rank 0 (pid ") == 2);
  CHECK(count_of(result.out, ") exited with 0\n") == 2);
}

TEST_CASE("launcher: peers learn of a death through the store") {
  const auto result = launch({"-n", "2", "--grace", "20", kProbe, "only=1", "get=ready",
                              "signal=KILL", "all", "ignore=TERM", "set=ready", "get=rank_exit/1"});
  CHECK(result.exit_code == 137);
  CHECK(result.out.find("[0] rank_exit/1=rank 1 (pid ") != std::string::npos);
  CHECK(result.out.find(") killed by SIGKILL\n") != std::string::npos);
}

TEST_CASE("launcher: the report names consequences and repeats the last lines of the failed rank") {
  std::vector<std::string> arguments = {"-n", "2", kProbe, "only=1", "get=ready"};
  for (int i = 0; i < 30; ++i) arguments.push_back("err=line " + std::to_string(i));
  for (const char* last : {"exit=9", "all", "set=ready", "forever"}) arguments.push_back(last);
  const auto result = launch(arguments);
  CHECK(result.exit_code == 9);
  const auto own = own_lines(result.err);
  REQUIRE(own.size() == 23);
  CHECK(own[0].find("rank 1 (pid ") == 0);
  CHECK(own[1].find("launcher: as a consequence: rank 0 (pid ") == 0);
  CHECK(own[1].find(") killed by SIGTERM") != std::string::npos);
  CHECK(own[2] == "launcher: the last lines of rank 1 on stderr:");
  CHECK(own[3] == "  line 10");
  CHECK(own[22] == "  line 29");
  CHECK(result.err.find("[1] line 29\nrank 1 (pid ") != std::string::npos);
}

TEST_CASE("launcher: a rank that failed by itself at the same time is no consequence") {
  // Rank 0 stops the launcher, which is woken once rank 1 has ended too.
  const TempDir folder;
  const std::string program =
      "cd \"$1\"; if [ $RANK = 0 ]; then "
      "(for pid in $$ $(until cat pid; do sleep 0.01; done); do "
      "until grep -q '^State:.Z' /proc/$pid/status; do sleep 0.01; done; done; "
      "kill -CONT $PPID) 2>/dev/null & kill -STOP $PPID; exit 3; fi; "
      "until grep -q '^State:.T' /proc/$PPID/status; do sleep 0.01; done; "
      "echo $$ >new; mv new pid; exit 4";
  const auto result =
      launch({"-n", "3", "/bin/sh", "-c", "if [ $RANK = 2 ]; then exec sleep 600; fi; " + program,
              "sh", folder.path().string()});
  REQUIRE((result.exit_code == 3 || result.exit_code == 4));
  const int other = result.exit_code == 3 ? 1 : 0;
  const auto own = own_lines(result.err);
  REQUIRE(own.size() == 3);
  CHECK(std::regex_match(own[1],
                         std::regex("launcher: at the same time: rank " + std::to_string(other) +
                                    " \\(pid [0-9]+\\) exited with " + std::to_string(3 + other))));
  CHECK(std::regex_match(own[2], std::regex("launcher: as a consequence: rank 2 \\(pid [0-9]+\\) "
                                            "killed by SIGTERM")));
}

TEST_CASE("launcher: a rank that ignores SIGTERM is killed after the grace period") {
  Launched job({"-n", "2", "--grace", "0.3", kProbe, "ignore=TERM", "pid", "input", "only=0",
                "exit=5", "all", "forever"});
  job.wait_for("pid ", 2);
  const auto start = std::chrono::steady_clock::now();
  job.close_input();
  const auto result = job.finish();
  const double seconds = seconds_since(start);
  CHECK(result.exit_code == 5);
  CHECK(seconds >= 0.3);
  CHECK(seconds < 5);
  CHECK(result.err.find("as a consequence: rank 1 (pid ") != std::string::npos);
  CHECK(result.err.find(") killed by SIGKILL\n") != std::string::npos);
}

TEST_CASE("launcher: the grace period by the environment, the flag wins") {
  const std::vector<std::string> tail = {kProbe,   "ignore=TERM", "only=0",    "get=ready",
                                         "exit=5", "all",         "set=ready", "forever"};
  const auto run = [&](std::vector<std::string> arguments, const char* variable) {
    arguments.insert(arguments.end(), tail.begin(), tail.end());
    const auto start = std::chrono::steady_clock::now();
    CHECK(launch(arguments, {variable}).exit_code == 5);
    return seconds_since(start);
  };
  CHECK(run({"-n", "2"}, "WEFT_GRACE=0") < 5);
  CHECK(run({"-n", "2", "--grace", "0"}, "WEFT_GRACE=30") < 5);
  CHECK(run({"-n", "2"}, "WEFT_GRACE=0.4") >= 0.4);
}

TEST_CASE("launcher: children and daemons of ranks do not outlive the job") {
  for (const char* end : {"exit=0", "exit=4", "signal=KILL"}) {
    CAPTURE(end);
    Launched job(
        {"-n", "2", kProbe, "child", "daemon", "only=0", "input", end, "all", "get=rank_exit/0"});
    job.wait_for("child ", 4);
    CHECK(job.left_behind().size() == 8);  // launcher, guardian, ranks, two of each's own
    const auto result = job.finish();      // checks that none is left
    CHECK(result.exit_code == (end[0] == 's' ? 137 : std::atoi(end + 5)));
  }
}

TEST_CASE("launcher: the launcher's own death takes the ranks along") {
  Launched job({"-n", "3", kProbe, "ignore=TERM", "ignore=HUP", "pid", "forever"});
  job.wait_for("pid ", 3);
  job.signal(SIGKILL);
  for (const pid_t pid : job.pids("pid")) CHECK(ends_soon(pid));
  CHECK(job.finish().signal == SIGKILL);
}

TEST_CASE("launcher: the time limit ends the job with 124") {
  const auto start = std::chrono::steady_clock::now();
  const auto result = launch({"-n", "2", "--time_limit", "0.2", kProbe, "forever"});
  CHECK(result.exit_code == 124);
  CHECK(seconds_since(start) >= 0.2);
  CHECK(seconds_since(start) < 5);
  REQUIRE(own_lines(result.err).size() == 1);
  CHECK(compare_error_text("launcher_time_limit", own_lines(result.err)[0].substr(
                                                      std::string("launcher: ").size())) == "");
  CHECK(launch({"-n", "2", "--time_limit", "30", kProbe, "exit=0"}).exit_code == 0);
}

TEST_CASE("launcher: a stopped rank is ended too") {
  Launched job({"-n", "2", "--grace", "20", kProbe, "pid", "only=0", "input", "exit=6", "all",
                "signal=STOP", "forever"});
  job.wait_for("pid ", 2);
  const auto start = std::chrono::steady_clock::now();
  CHECK(job.finish().exit_code == 6);
  CHECK(seconds_since(start) < 10);
}

TEST_CASE("launcher: many ranks, a random one fails") {
  for (const int rank : {0, 7, 15}) {
    const auto result = launch(
        {"-n", "16", kProbe, "only=" + std::to_string(rank), "signal=KILL", "all", "forever"});
    CHECK(result.exit_code == 137);
    CHECK(first_line(result) == "rank " + std::to_string(rank) + " (pid N) killed by SIGKILL");
  }
}

TEST_CASE("launcher: too few descriptors for the ranks: refused before any starts") {
  const auto result =
      run_process({"sh", "-c", "ulimit -n 24; '" + kLauncher + "' -n 16 '" + kProbe + "' forever"});
  CHECK(result.exit_code == 2);
  REQUIRE(result.err.starts_with("launcher: "));
  CHECK(compare_error_text("launcher_too_few_descriptors",
                           result.err.substr(10, result.err.size() - 11)) == "");
}

TEST_CASE("launcher: a stranger at the store is named at the end, the job goes on") {
  if (!on_path("bash")) WEFT_SKIP("bash is not installed");
  const auto result =
      launch({"-n", "2", "bash", "-c",
              "exec 3<>/dev/tcp/$MASTER_ADDR/$MASTER_PORT; printf %0100d 0 >&3; cat <&3; echo "
              "answered"});
  CHECK(result.exit_code == 0);
  CHECK(result.out.find("[0] answered\n") != std::string::npos);
  const auto own = own_lines(result.err);
  REQUIRE(own.size() == 1);  // the same from each rank
  CHECK(compare_error_text("launcher_stranger", without_digits(own[0].substr(10))) == "");
}

TEST_CASE("launcher: of many failures the true first one is named, over random schedules") {
  std::mt19937 random(3);
  for (int round = 0; round < 15; ++round) {
    const int ranks = 2 + static_cast<int>(random() % 7);
    const std::string culprit = std::to_string(random() % static_cast<unsigned>(ranks));
    const bool by_signal = random() % 2 == 0;
    CAPTURE(ranks);
    CAPTURE(culprit);
    // The peers fail because of the death that they learn of, as ranks in a collective do.
    const auto result = launch({"-n", std::to_string(ranks), kProbe, "only=" + culprit,
                                by_signal ? "signal=KILL" : "exit=3", "all", "ignore=TERM",
                                "get=rank_exit/" + culprit, "err=lost a peer", "exit=1"});
    CHECK(result.exit_code == (by_signal ? 137 : 3));
    CHECK(first_line(result) ==
          "rank " + culprit + " (pid N) " + (by_signal ? "killed by SIGKILL" : "exited with 3"));
  }
}

TEST_CASE("processes: children are seen, and whether a process is ending") {
  CHECK_FALSE(weft::launcher::is_exiting(::getpid()));
  const pid_t child = ::fork();
  if (child == 0) ::_exit(0);
  CHECK(weft::launcher::has_children());
  const auto all = weft::launcher::children();
  CHECK(std::count(all.begin(), all.end(), child) == 1);
  siginfo_t info{};
  REQUIRE(::waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT) == 0);
  CHECK(weft::launcher::is_exiting(child));              // ended, not yet reaped
  CHECK(weft::launcher::kill_children(all, 1).empty());  // spared
  CHECK(::waitpid(child, nullptr, WNOHANG) == child);
  CHECK(weft::launcher::is_exiting(child));
}
