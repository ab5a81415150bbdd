// Signals to the launcher.
#include <doctest/doctest.h>

#include <signal.h>
#include <sys/wait.h>

#include <chrono>
#include <string>
#include <vector>

#include <weft/tests/launcher/launched.hpp>
#include <weft/tests/support/errors.hpp>

using namespace weft::test;

TEST_CASE("launcher: Ctrl-C is passed on, exit code 130") {
  Launched job({"-n", "3", kProbe, "pid", "forever"});
  job.wait_for("pid ", 3);
  job.signal(SIGINT);
  const auto result = job.finish();
  CHECK(result.exit_code == 130);
  const auto own = own_lines(result.err);
  REQUIRE(own.size() == 1);
  CHECK(compare_error_text("launcher_interrupted", own[0].substr(10)) == "");
}

TEST_CASE("launcher: a rank may end in its own way at Ctrl-C, the code stays 130") {
  Launched job({"-n", "2", "--grace", "20", kProbe, "block=INT", "pid", "await=INT", "exit=0"});
  job.wait_for("pid ", 2);
  job.signal(SIGINT);
  const auto result = job.finish();
  CHECK(result.exit_code == 130);
  CHECK(count_of(result.out, "got INT") == 2);
}

TEST_CASE("launcher: a second Ctrl-C kills at once") {
  Launched job({"-n", "2", "--grace", "60", kProbe, "block=INT", "pid", "await=INT", "forever"});
  job.wait_for("pid ", 2);
  job.signal(SIGINT);
  job.wait_for("got INT", 2);
  const auto start = std::chrono::steady_clock::now();
  job.signal(SIGINT);
  const auto result = job.finish();
  CHECK(result.exit_code == 130);
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(10));
  CHECK(result.err.find("launcher: SIGINT again; killing 2 ranks\n") != std::string::npos);
}

TEST_CASE("launcher: Ctrl-C kills at once when the job is ending already, the first code stays") {
  Launched job({"-n", "2", "--grace", "60", kProbe, "only=1", "get=ready", "exit=5", "all",
                "block=TERM", "set=ready", "pid", "await=TERM", "forever"});
  job.wait_for("got TERM");
  job.signal(SIGINT);
  CHECK(job.finish().exit_code == 5);
}

TEST_CASE("launcher: SIGTERM and SIGHUP end the job, with the grace period") {
  struct Row {
    int number;
    const char* name;
    int code;
  };
  for (const Row& row : {Row{SIGTERM, "TERM", 143}, {SIGHUP, "HUP", 129}, {SIGQUIT, "QUIT", 131}}) {
    CAPTURE(row.name);
    const std::string signal = row.name;
    Launched job({"-n", "2", "--grace", "0.2", kProbe, "block=" + signal, "pid", "await=" + signal,
                  "only=0", "exit=0", "all", "forever"});
    job.wait_for("pid ", 2);
    job.signal(row.number);
    const auto result = job.finish();
    CHECK(result.exit_code == row.code);
    CHECK(count_of(result.out, "got " + signal) == 2);
    CHECK(result.err.find("rank 1 (pid ") != std::string::npos);  // had to be killed
  }
}

TEST_CASE("launcher: SIGUSR1 and SIGUSR2 are passed on and change nothing else") {
  Launched job(
      {"-n", "2", kProbe, "block=USR1", "block=USR2", "pid", "await=USR1", "await=USR2", "exit=0"});
  job.wait_for("pid ", 2);
  job.signal(SIGUSR1);
  job.wait_for("got USR1", 2);
  job.signal(SIGUSR2);
  const auto result = job.finish();
  CHECK(result.exit_code == 0);
  CHECK(count_of(result.out, "got USR2") == 2);
  CHECK(result.err.empty());
}

TEST_CASE("launcher: Ctrl-Z stops the launcher and the ranks, which go on together") {
  Launched job({"-n", "2", kProbe, "block=CONT", "pid", "await=CONT"});
  job.wait_for("pid ", 2);
  job.signal(SIGTSTP);
  int status = 0;
  REQUIRE(::waitpid(job.pid(), &status, WUNTRACED) == job.pid());
  CHECK(WIFSTOPPED(status));
  for (const pid_t rank : job.pids("pid")) CHECK(stops_soon(rank));
  job.signal(SIGCONT);
  const auto result = job.finish();
  CHECK(result.exit_code == 0);
  CHECK(count_of(result.out, "got CONT") == 2);
}

TEST_CASE("launcher: a signal that was ignored before it started stays ignored") {
  const auto result = run_process(
      {"sh", "-c",
       "trap '' HUP; '" + kLauncher + "' -n 2 '" + kProbe +
           "' pid get=go exit=0 & launcher=$!; kill -HUP $launcher; kill -TERM $launcher; wait "
           "$launcher; echo code $?"});
  // SIGHUP alone would have given 129.
  CHECK(result.out.find("code 143") != std::string::npos);
}
