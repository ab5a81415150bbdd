// How the launcher tells causes from consequences, and what it does when it is killed itself.
#include <doctest/doctest.h>

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <regex>
#include <string>
#include <vector>

#include <weft/launcher/affinity.hpp>
#include <weft/launcher/guardian.hpp>
#include <weft/launcher/launch.hpp>
#include <weft/launcher/oom.hpp>
#include <weft/tests/launcher/launched.hpp>
#include <weft/tests/support/skip.hpp>
#include <weft/tests/support/temp_dir.hpp>

using namespace weft::test;
using namespace weft::launcher;

namespace {

const std::string kTrainee = WEFT_BUILD_ROOT "/tests/launcher/trainee";

std::string first_line(const ProcessResult& result) {
  const auto own = own_lines(result.err);
  return own.empty() ? "" : std::regex_replace(own[0], std::regex("pid [0-9]+"), "pid N");
}

void write_file(const std::filesystem::path& file, const std::string& text) {
  std::filesystem::create_directories(file.parent_path());
  std::ofstream(file) << text;
}

}  // namespace

TEST_CASE("launcher: survivors of a lost rank are consequences, and say of whom") {
  const auto result = launch(
      {"-n", "3", kTrainee, "catch", "join", "reduce=5", "only=1", "kill_self", "all", "forever"});
  CAPTURE(result.err);
  CHECK(result.exit_code == 137);
  CHECK(first_line(result) == "rank 1 (pid N) killed by SIGKILL");
  // Those that were quicker than the launcher's SIGTERM say why.
  const std::regex others(
      R"(launcher: as a consequence: rank 0 \(pid [0-9]+\) (exited with 20, because rank 1 was lost|)"
      R"(killed by SIGTERM(, because rank 1 was lost)?); rank 2 \(pid .*)");
  bool found = false;
  for (const std::string& line : own_lines(result.err)) found |= std::regex_match(line, others);
  CHECK(found);
}

TEST_CASE("launcher: a rank that unwinds out of its group is named, not those that miss it") {
  // Rank 1's exception leaves the group before it ends the process, which takes its time.
  for (int round = 0; round < 5; ++round) {
    const auto result = launch({"-n", "3", kTrainee, "catch", "join", "reduce=5", "only=1", "leave",
                                "busy=100", "exit=7", "all", "forever"});
    CAPTURE(result.err);
    CHECK(result.exit_code == 7);
    CHECK(first_line(result) == "rank 1 (pid N) exited with 7");
  }
}

TEST_CASE("launcher: an early end with 0 that others fail for is named") {
  const auto result = launch(
      {"-n", "3", kTrainee, "catch", "join", "reduce=5", "only=2", "exit=0", "all", "forever"});
  CAPTURE(result.err);
  CHECK(result.exit_code == 20);
  CHECK(std::regex_match(
      first_line(result),
      std::regex(R"(rank 2 \(pid N\) exited with 0 while rank [01] still needed it)")));
  CHECK(result.err.find("of group 'world' (pid ") != std::string::npos);
  // Uncaught, the others abort.
  const auto aborted =
      launch({"-n", "3", kTrainee, "join", "reduce=5", "only=2", "exit=0", "all", "forever"});
  CHECK(aborted.exit_code == 134);
  CHECK(first_line(aborted).find("rank 2 (pid N) exited with 0 while rank ") == 0);
}

TEST_CASE("launcher: quiet leaves the consequences out") {
  const auto result = launch({"-n", "3", "-q", kProbe, "only=1", "exit=7", "all", "forever"});
  CHECK(result.exit_code == 7);
  CHECK(own_lines(result.err).size() == 1);
}

TEST_CASE("launcher: kill -9 of the launcher takes what ranks have started along") {
  Launched job({"-n", "2", kProbe, "child", "daemon", "pid", "forever"});
  job.wait_for("child ", 4);
  job.wait_for("pid ", 2);
  const auto all = job.left_behind();
  CHECK(all.size() == 8);
  job.signal(SIGKILL);
  for (const pid_t pid : all) CHECK(ends_soon(pid));
  CHECK(job.finish().signal == SIGKILL);
}

TEST_CASE("guardian: sent away it does nothing, and needs no job") {
  Guardian none("");
  CHECK(none.pid() == -1);
  Guardian guardian("a job that nobody has");
  const pid_t pid = guardian.pid();
  REQUIRE(pid > 0);
  guardian.dismiss();
  CHECK(guardian.pid() == -1);
  CHECK(::waitpid(pid, nullptr, WNOHANG) == -1);
}

TEST_CASE("oom: counts of both versions of control groups, and of the host") {
  const TempDir root;
  const auto at = [&](const std::string& path) { return root.path() / path; };
  write_file(at("proc/vmstat"), "nr_free 5\noom_kill 2\npgfault 3\n");
  SUBCASE("version 1") {
    write_file(at("proc/self/cgroup"), "5:cpu:/x\n4:pids,memory:/jobs/7\n0::/\n");
    write_file(at("sys/fs/cgroup/memory/jobs/7/memory.oom_control"),
               "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n");
    write_file(at("sys/fs/cgroup/memory/jobs/7/memory.limit_in_bytes"), "52428800\n");
    OomWatch watch(root.path());
    CHECK(watch.news() == "");
    write_file(at("sys/fs/cgroup/memory/jobs/7/memory.oom_control"), "oom_kill 1\n");
    CHECK(watch.news() ==
          "the kernel's OOM killer: oom_kill of memory cgroup /jobs/7 went from 0 to 1, the limit "
          "is 50.0 MiB");
    CHECK(watch.news() == "");
  }
  SUBCASE("version 2, at the top of a container") {
    write_file(at("proc/self/cgroup"), "0::/elsewhere\n");
    write_file(at("sys/fs/cgroup/memory.events"), "low 0\noom 4\noom_kill 3\n");
    write_file(at("sys/fs/cgroup/memory.max"), "max\n");
    OomWatch watch(root.path());
    write_file(at("sys/fs/cgroup/memory.events"), "low 0\noom 5\noom_kill 5\n");
    CHECK(watch.news() == "the kernel's OOM killer: oom_kill of memory cgroup / went from 3 to 5");
  }
  SUBCASE("the host alone") {
    OomWatch watch(root.path());
    write_file(at("proc/vmstat"), "oom_kill 3\n");
    CHECK(
        watch.news() ==
        "probably the kernel's OOM killer: oom_kill in /proc/vmstat, of the whole host, went from "
        "2 to 3");
  }
  SUBCASE("nothing to read") {
    std::filesystem::remove_all(root.path() / "proc");
    OomWatch watch(root.path());
    CHECK(watch.news() == "");
  }
}

TEST_CASE("oom: a rank that the kernel kills for want of memory is told from one that was killed") {
  // A memory control group of its own around the launcher, where this machine lets us make one.
  const std::string make =
      "group=$(sed -n 's/^[0-9]*:memory://p' /proc/self/cgroup); "
      "folder=/sys/fs/cgroup/memory$group/weft-test-$$; "
      "mkdir \"$folder\" 2>/dev/null || exit 77; "
      "echo 64M >\"$folder/memory.limit_in_bytes\" || exit 77; "
      "sh -c 'echo $$ >\"'\"$folder\"'/cgroup.procs\"; exec \"$0\" \"$@\"' '" +
      kLauncher + "' -n 2 --grace 1 '" + kProbe +
      "' only=1 eat=512 all forever; code=$?; "
      "rmdir \"$folder\"; exit $code";
  const auto result = run_process({"sh", "-c", make});
  if (result.exit_code == 77) WEFT_SKIP("no memory control group of version 1 can be made here");
  CAPTURE(result.err);
  CHECK(result.exit_code == 137);
  CHECK(first_line(result) == "rank 1 (pid N) killed by SIGKILL");
  REQUIRE(own_lines(result.err).size() >= 2);
  CHECK(std::regex_match(
      own_lines(result.err)[1],
      std::regex(R"(launcher: the kernel's OOM killer: oom_kill of memory cgroup )"
                 R"(.*/weft-test-[0-9]+ went from 0 to 1, the limit is 64.0 MiB)")));
  // Without the OOM killer nothing is said of it.
  const auto plain = launch({"-n", "2", kProbe, "only=1", "signal=KILL", "all", "forever"});
  CHECK(plain.err.find("OOM") == std::string::npos);
}

TEST_CASE("bind: cores and nodes are dealt out in order") {
  // Two nodes of two cores with two threads each, numbered as Linux does: cores first.
  std::vector<Cpu> cpus;
  for (int i = 0; i < 8; ++i)
    cpus.push_back({.number = i, .core = i % 4, .package = i % 4 / 2, .node = i % 4 / 2});
  const auto row = [&](Bind bind, int ranks) {
    std::string text;
    for (int rank = 0; rank < ranks; ++rank) {
      const Placement placement = place(bind, cpus, rank, ranks, 9);
      text += cpu_list(placement.cpus) + ":" + std::to_string(placement.threads) + " ";
    }
    return text;
  };
  CHECK(row(Bind::none, 2) == ":9 :9 ");
  CHECK(row(Bind::core, 1) == "0-7:4 ");
  CHECK(row(Bind::core, 2) == "0-1,4-5:2 2-3,6-7:2 ");
  CHECK(row(Bind::core, 4) == "0,4:1 1,5:1 2,6:1 3,7:1 ");
  CHECK(row(Bind::core, 3) == "0,4:1 1,5:1 2-3,6-7:2 ");
  CHECK(row(Bind::core, 8) == "0,4:1 0,4:1 1,5:1 1,5:1 2,6:1 2,6:1 3,7:1 3,7:1 ");
  CHECK(row(Bind::numa, 2) == "0-1,4-5:2 2-3,6-7:2 ");
  CHECK(row(Bind::numa, 4) == "0-1,4-5:1 0-1,4-5:1 2-3,6-7:1 2-3,6-7:1 ");
  CHECK(place(Bind::core, cpus, 1, 4, 1).text == "CPUs 1,5 (node 0), 1 thread");
  CHECK(cpu_list({9, 3, 2, 1, 3}) == "1-3,9");
  CHECK(cpu_list({}) == "");
}

TEST_CASE("bind: the topology as the system describes it, or without a description") {
  const TempDir root;
  const std::string cpu = root.path() / "sys/devices/system/cpu/cpu5";
  write_file(cpu + "/topology/core_id", "2\n");
  write_file(cpu + "/topology/physical_package_id", "1\n");
  std::filesystem::create_directories(cpu + "/node3");
  const auto cpus = topology(root.path(), {5, 6});
  REQUIRE(cpus.size() == 2);
  CHECK(cpus[0].core == 2);
  CHECK(cpus[0].package == 1);
  CHECK(cpus[0].node == 3);
  CHECK(cpus[1].core == 6);
  CHECK(cpus[1].node == 0);
  CHECK_FALSE(topology().empty());
}

TEST_CASE("bind: more ranks than cores are no secret") {
  const auto cpus = topology();
  CHECK_FALSE(place(Bind::core, cpus, 0, 1, 1).shared);
  CHECK(place(Bind::core, cpus, 0, static_cast<int>(2 * cpus.size()), 1).shared);
  CHECK_FALSE(place(Bind::numa, cpus, 0, static_cast<int>(2 * cpus.size()), 1).shared);
  if (cpus.size() > 32) return;  // as many ranks would say no more
  const std::string ranks = std::to_string(cpus.size() + 1);
  const auto result = launch({"-n", ranks, "--bind", "core", "true"});
  CHECK(result.exit_code == 0);
  CHECK(result.err ==
        "launcher: --bind core: " + ranks + " ranks on fewer cores, so that some share one\n");
  CHECK(launch({"-q", "-n", ranks, "--bind", "core", "true"}).err.empty());
}

TEST_CASE("bind: ranks run where they are bound, which debug reports") {
  const auto result = launch({"-n", "2", "--bind", "core", "--debug", kProbe, "affinity"});
  CHECK(result.exit_code == 0);
  const auto cpus = topology();
  for (int rank = 0; rank < 2; ++rank) {
    const Placement placement = place(Bind::core, cpus, rank, 2, 1);
    CHECK(result.out.find("[" + std::to_string(rank) + "] CPUs " + cpu_list(placement.cpus) +
                          "\n") != std::string::npos);
    CHECK(std::regex_search(result.err, std::regex("launcher: rank " + std::to_string(rank) +
                                                   " \\(pid [0-9]+\\): CPUs .* threads?\n")));
  }
}

TEST_CASE("launcher: GPUs by number") {
  LaunchOptions options;
  options.gpu_ids = std::vector<int>{0, 2};
  const auto environment = rank_environment({"CUDA_VISIBLE_DEVICES=7"}, options, {}, 0, 1);
  CHECK(std::count(environment.begin(), environment.end(), "CUDA_VISIBLE_DEVICES=0,2") == 1);
  CHECK(std::count(environment.begin(), environment.end(), "CUDA_VISIBLE_DEVICES=7") == 0);
}
