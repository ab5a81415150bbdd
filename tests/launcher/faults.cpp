// Faults of processes and of their host; docs/faults.md has the whole list. What a fault does to
// messages is in tests/dist.
#include <doctest/doctest.h>

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <memory>
#include <regex>
#include <string>
#include <vector>

#include <weft/tests/launcher/drill.hpp>
#include <weft/tests/launcher/launched.hpp>
#include <weft/tests/support/skip.hpp>
#include <weft/tests/support/temp_dir.hpp>

using namespace weft::test;

namespace {

const std::string kTrainee = WEFT_BUILD_ROOT "/tests/launcher/trainee";
const std::string kFaultRank = WEFT_BUILD_ROOT "/tests/launcher/fault_rank";

std::string first_line(const ProcessResult& result) {
  const auto own = own_lines(result.err);
  return own.empty() ? "" : std::regex_replace(own[0], std::regex("pid [0-9]+"), "pid N");
}

/// The numbers behind `word` on stdout.
std::vector<int64_t> numbers(const std::string& text, const std::string& word) {
  std::vector<int64_t> found;
  const std::regex pattern("\\] " + word + " ([0-9]+)");
  for (std::sregex_iterator it(text.begin(), text.end(), pattern), end; it != end; ++it)
    found.push_back(std::stoll((*it)[1]));
  return found;
}

/// Runs a fault that kills rank 1 of `ranks` while the others are in the same sum, and returns the
/// longest time until one of them knew, in seconds.
double check_lost(int ranks, const std::string& fault) {
  CAPTURE(fault);
  const auto result =
      launch({"-n", std::to_string(ranks), "--grace", "20", kFaultRank, fault}, {"IGNORE_TERM=1"});
  CAPTURE(result.err);
  CAPTURE(result.out);
  CHECK(result.exit_code == 137);
  CHECK(first_line(result) == "rank 1 (pid N) killed by SIGKILL");
  CHECK(result.out.find("wrong result") == std::string::npos);
  const auto died = numbers(result.out, "died"), lost = numbers(result.out, "lost");
  REQUIRE(died.size() == 1);
  CHECK(lost.size() == static_cast<size_t>(ranks - 1));
  CHECK(count_of(result.out, "rank 1 of group 'world'") >= ranks - 1);
  double longest = 0;
  for (const int64_t when : lost)
    longest = std::max(longest, static_cast<double>(when - died[0]) * 1e-9);
  CHECK(longest < 1.0);
  return longest;
}

/// `sh -c script`, the rest being $0, $1 …
ProcessResult shell(const std::string& script, const std::vector<std::string>& arguments) {
  std::vector<std::string> argv = {"sh", "-c", script};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  return run_process(argv);
}

}  // namespace

TEST_CASE("F01: kill -9 in each phase of a sum, in private memory and in shared") {
  double longest = 0;
  for (const int ranks : {2, 3, 4})
    for (const char* fault : {"in_copy", "out", "arena_reduce", "arena_out"})
      longest = std::max(longest, check_lost(ranks, fault));
  for (const int microseconds : {500, 1500, 3000, 5000, 8000, 13000, 21000, 34000})
    longest = std::max(longest, check_lost(3, "whenever=" + std::to_string(microseconds)));
  std::printf("F01: 20 kills, PeerLost within %.0f ms\n", longest * 1e3);
}

TEST_CASE("F02: a rank that is stopped for a while is slow, and right") {
  Launched job({"-n", "3", kFaultRank, "stop"});
  job.wait_for("stopping");
  const pid_t stopped = job.pids("stopping").at(0);
  REQUIRE(stops_soon(stopped));
  ::poll(nullptr, 0, 1000);  // the fault: others wait for it that long
  REQUIRE(::kill(stopped, SIGCONT) == 0);
  CHECK(job.finish().exit_code == 0);
}

TEST_CASE("F02: a rank that stays stopped is named as such when the deadline passes") {
  const auto result =
      launch({"-n", "2", "--collective_timeout", "1", "--grace", "1", kFaultRank, "stop"});
  CAPTURE(result.out);
  CHECK(result.exit_code == 20);
  CHECK(first_line(result) == "rank 0 (pid N) exited with 20");
  CHECK(std::regex_search(result.out, std::regex(R"(rank 1 \(pid [0-9]+, stopped; )")));
}

TEST_CASE("F03: each way to fail has a first line of its own") {
  struct Row {
    std::vector<std::string> actions;
    int code;
    std::string line, more;
  };
  const Row rows[] = {
      {{"segv"}, 139, "rank 1 (pid N) killed by SIGSEGV", "SIGSEGV at address 0x0"},
      {{"abort"}, 134, "rank 1 (pid N) killed by SIGABRT", "SIGABRT raised by abort()"},
      {{"throw"}, 134, "rank 1 (pid N) killed by SIGABRT", "uncaught std::runtime_error: the loss"},
      {{"exit=0"}, 20, "rank 1 (pid N) exited with 0 while rank 0 still needed it", ""},
      {{"exit=7"}, 7, "rank 1 (pid N) exited with 7", ""},
  };
  for (const Row& row : rows) {
    CAPTURE(row.line);
    std::vector<std::string> arguments = {"-n",  "2",    kTrainee,   "only=0", "catch",
                                          "all", "join", "reduce=2", "only=1"};
    arguments.insert(arguments.end(), row.actions.begin(), row.actions.end());
    arguments.insert(arguments.end(), {"all", "forever"});
    const auto result = launch(arguments);
    CHECK(result.exit_code == row.code);
    CHECK(first_line(result) == row.line);
    CHECK(result.err.find(row.more) != std::string::npos);
  }
}

TEST_CASE("F05: a child by fork that keeps all descriptors hides nobody's death") {
  const double seconds = check_lost(3, "fork");
  std::printf("F05: PeerLost after %.0f ms beside a forked child\n", seconds * 1e3);
  // What is executed gets none of them: the same descriptors before the rank has a group and after.
  const std::string list = "shell=ls /proc/self/fd | tr '\\n' ' '; echo";
  const auto result =
      launch({"-n", "2", kTrainee, "only=1", list, "all", "join", "reduce=1", "only=1", list});
  const std::string line = result.out.substr(0, result.out.find('\n') + 1);
  CHECK(line.starts_with("[1] 0 1 "));
  CHECK(count_of(result.out, line) == 2);
}

TEST_CASE("F11: two groups used from two threads in different orders") {
  CHECK(launch({"-n", "4", "--collective_timeout", "60", kFaultRank, "two_groups"}).exit_code == 0);
}

TEST_CASE("F13: memory that is refused is a clean error on all ranks") {
  for (const int ranks : {2, 3}) {
    const auto result = launch(
        {"-n", std::to_string(ranks), "--collective_timeout", "20", kFaultRank, "shared=256"},
        {"IGNORE_TERM=1"});
    CAPTURE(result.out);
    CAPTURE(result.err);
    CHECK(result.exit_code == 21);
    CHECK(count_of(result.out, "refused: ") == ranks);
  }
  int refused = 0, went_well = 0;
  for (const int mebibytes : {0, 4, 8, 16, 24, 32, 48, 64, 96, 128, 256, 1024}) {
    CAPTURE(mebibytes);
    const auto result = launch({"-n", "2", "--collective_timeout", "20", "--join_timeout", "20",
                                kFaultRank, "memory=" + std::to_string(mebibytes)});
    CAPTURE(result.out);
    CAPTURE(result.err);
    const bool clean = result.exit_code == 0 || result.exit_code == 20 || result.exit_code == 21 ||
                       result.err.find("uncaught std::bad_alloc") != std::string::npos;
    CHECK(clean);
    CHECK(result.err.find("SIGBUS") == std::string::npos);
    CHECK(result.err.find("SIGSEGV") == std::string::npos);
    (result.exit_code == 0 ? went_well : refused) += 1;
  }
  CHECK(refused > 0);
  CHECK(went_well > 0);
}

TEST_CASE("F14: few descriptors, few processes, little /dev/shm, no /proc") {
  const auto few =
      shell("ulimit -n 64; exec \"$0\" -n 4 \"$1\" join reduce=3", {kLauncher, kTrainee});
  CAPTURE(few.err);
  CHECK(few.exit_code == 0);
  const auto too_few =
      shell("ulimit -n 64; exec \"$0\" -n 8 \"$1\" join reduce=3", {kLauncher, kTrainee});
  CHECK(too_few.exit_code == 2);
  CHECK(too_few.err.find("open files, the limit is 64") != std::string::npos);

  const auto shm = shell(
      "unshare -rm sh -c 'mount -t tmpfs -o size=1m none /dev/shm && exec "
      "\"$0\" -n 2 \"$1\" join big=2' \"$0\" \"$1\" || exit $?",
      {kLauncher, kTrainee});
  // The loader finds libweft beside the program through /proc, so it is told where it is.
  const auto proc = shell(
      "LD_LIBRARY_PATH=\"$2\" unshare -rm sh -c 'mount -t tmpfs none /proc && "
      "exec \"$0\" -n 2 \"$1\" join reduce=3 only=1 exit=7 all forever' "
      "\"$0\" \"$1\"",
      {kLauncher, kTrainee, WEFT_BUILD_ROOT});
  if (shm.err.find("unshare") != std::string::npos) WEFT_SKIP("no mount namespaces: " + shm.err);
  CHECK(shm.exit_code == 0);
  CAPTURE(proc.err);
  CHECK(proc.exit_code == 7);
  CHECK(first_line(proc) == "rank 1 (pid N) exited with 7");
}

TEST_CASE("F14: a limit on processes") {
  const std::string script =
      "folder=/sys/fs/cgroup/pids/weft-test-$$; mkdir \"$folder\" 2>/dev/null || exit 77; "
      "echo 12 >\"$folder/pids.max\" || exit 77; "
      "sh -c 'echo $$ >\"'\"$folder\"'/cgroup.procs\"; exec \"$0\" \"$@\"' \"$0\" -n 16 \"$1\" "
      "forever; code=$?; rmdir \"$folder\"; exit $code";
  const auto result = shell(script, {kLauncher, kProbe});
  if (result.exit_code == 77) WEFT_SKIP("no control group for processes can be made here");
  CHECK(result.exit_code == 2);
  CHECK(std::regex_search(result.err, std::regex("launcher: cannot start rank [0-9]+: Resource "
                                                 "temporarily unavailable; raise the limit")));
}

TEST_CASE("F15: kill -9 of the launcher: ranks, children and daemons are gone within a second") {
  Launched job({"-n", "3", kProbe, "ignore=TERM", "child", "daemon", "pid", "forever"});
  job.wait_for("child ", 6);
  job.wait_for("pid ", 3);
  const auto all = job.left_behind();
  const int64_t start = now_ns();
  job.signal(SIGKILL);
  for (const pid_t pid : all) CHECK(ends_soon(pid));
  const double seconds = static_cast<double>(now_ns() - start) * 1e-9;
  CHECK(seconds < 1);
  CHECK(job.finish().signal == SIGKILL);
  std::printf("F15: %zu processes gone %.0f ms after kill -9 of the launcher\n", all.size(),
              seconds * 1e3);
}

TEST_CASE("F16: jobs at the same moment on one host, and after one that was killed") {
  std::vector<std::unique_ptr<Launched>> jobs;
  for (int i = 0; i < 4; ++i)
    jobs.push_back(std::make_unique<Launched>(
        std::vector<std::string>{"-n", "2", kTrainee, "join", "reduce=20"}));
  for (const auto& job : jobs) CHECK(job->finish().exit_code == 0);
  for (int i = 0; i < 2; ++i) {
    Launched killed({"-n", "2", kTrainee, "join", "say=joined", "forever"});
    killed.wait_for("joined", 2);
    killed.signal(SIGKILL);
    for (const pid_t pid : killed.left_behind()) CHECK(ends_soon(pid));
    CHECK(launch({"-n", "2", kTrainee, "join", "reduce=2"}).exit_code == 0);
  }
}

TEST_CASE("F16: a host whose loopback has IPv6 alone") {
  const auto result = shell(
      "unshare -rn sh -c 'ip link set lo up && ip addr del 127.0.0.1/8 dev lo || exit 77; exec "
      "\"$0\" -n 2 \"$1\" join reduce=2' \"$0\" \"$1\"",
      {kLauncher, kTrainee});
  if (result.exit_code == 77 || result.err.find("unshare") != std::string::npos)
    WEFT_SKIP("no network namespaces: " + result.err);
  CAPTURE(result.err);
  CHECK(result.exit_code == 0);
}

TEST_CASE("F19: a wall clock that jumps is not noticed") {
  const std::string preload = "LD_PRELOAD=" WEFT_BUILD_ROOT "/tests/launcher/libclock_jumps.so";
  CHECK(launch({"-n", "3", "--collective_timeout", "30", "--join_timeout", "30", "--time_limit",
                "60", kTrainee, "join", "reduce=50", "big=2"},
               {preload})
            .exit_code == 0);
  // A deadline comes when it is due, not a fortnight later.
  const int64_t start = now_ns();
  const auto result = launch({"-n", "2", "--collective_timeout", "1", "--grace", "0", kTrainee,
                              "join", "only=1", "absent", "all", "catch", "reduce=1"},
                             {preload});
  CHECK(result.exit_code == 20);
  const double seconds = static_cast<double>(now_ns() - start) * 1e-9;
  CHECK(seconds > 1);
  CHECK(seconds < 15);
}

TEST_CASE("F20: a rank that scribbles over the shared control block harms no process") {
  int ended = 0, detected = 0;
  for (int seed = 1; seed <= 12; ++seed) {
    CAPTURE(seed);
    const auto result = launch({"-n", "3", "--collective_timeout", "5", "--grace", "20", kFaultRank,
                                "scribble=" + std::to_string(seed)},
                               {"IGNORE_TERM=1"});
    CAPTURE(result.out);
    CAPTURE(result.err);
    CHECK(count_of(result.out, "scribbled") == 1);
    CHECK((result.exit_code == 20 || result.exit_code == 0));
    CHECK(result.err.find("killed by SIGSEGV") == std::string::npos);
    CHECK(result.err.find("killed by SIGBUS") == std::string::npos);
    CHECK(result.out.find("wrong result") == std::string::npos);
    ended += result.exit_code == 20 ? 1 : 0;
    detected += result.out.find("damaged") != std::string::npos ? 1 : 0;
  }
  CHECK(detected > 0);
  std::printf("F20: of 12, %d ended by an error, %d of them named the damage, the others by none\n",
              ended, detected);
}
