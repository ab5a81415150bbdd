// Under SLURM and Open MPI, by the variables that they set; tests/clusters has the real ones.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>

#include <weft/dist/store/socket.hpp>
#include <weft/tests/launcher/launched.hpp>
#include <weft/tests/support/errors.hpp>
#include <weft/tests/support/skip.hpp>
#include <weft/tests/support/temp_dir.hpp>

using namespace weft::test;

namespace {

using Words = std::vector<std::string>;

Words joined(Words a, const Words& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

/// What srun sets for task `node` of two, one on each of two hosts.
Words step(int node) {
  const std::string n = std::to_string(node);
  return {"SLURM_JOB_ID=77",
          "SLURM_STEP_ID=0",
          "SLURM_PROCID=" + n,
          "SLURM_NTASKS=2",
          "SLURM_LOCALID=0",
          "SLURM_NODEID=" + n,
          "SLURM_NNODES=2",
          "SLURM_TASKS_PER_NODE=1(x2)",
          "SLURM_STEP_NODELIST=127.0.0.[4-5]"};
}

/// The same for mpirun.
Words mpi(int node) {
  const std::string n = std::to_string(node);
  return {
      "OMPI_COMM_WORLD_RANK=" + n,    "OMPI_COMM_WORLD_SIZE=2", "OMPI_COMM_WORLD_LOCAL_RANK=0",
      "OMPI_COMM_WORLD_LOCAL_SIZE=1", "PMIX_RANK=" + n,         "PMIX_NAMESPACE=test-scheduler"};
}

void check_text(const std::string& name, const std::string& text) {
  const std::string problem = compare_error_text(name, text);
  CHECK_MESSAGE(problem.empty(), problem);
}

/// A secret for all launchers of a test.
struct Secret {
  TempDir folder;
  std::string variable;
  Secret() {
    std::ofstream(folder / "token") << "a secret of the test of schedulers\n";
    ::chmod((folder / "token").c_str(), 0600);
    variable = "WEFT_TOKEN_FILE=" + (folder / "token").string();
  }
};

}  // namespace

TEST_CASE("scheduler: one launcher per host in a step of SLURM, and under mpirun") {
  const Secret secret;
  for (const bool slurm : {true, false}) {
    CAPTURE(slurm);
    const Words program = {"-n",     "2",     kProbe, "env=RANK", "env=WORLD_SIZE",
                           "only=3", "set=k", "all",  "get=k"};
    std::unique_ptr<Launched> launchers[2];
    for (int node = 0; node < 2; ++node) {
      Words variables = slurm ? step(node) : joined(mpi(node), {"MASTER_ADDR=127.0.0.4"});
      variables.push_back(secret.variable);
      launchers[node] = std::make_unique<Launched>(program, variables);
    }
    for (int node = 0; node < 2; ++node) {
      const auto result = launchers[node]->finish();
      CHECK(result.exit_code == 0);
      CHECK_MESSAGE(result.err.empty(), result.err);
      const std::string rank = std::to_string(2 * node + 1);
      CHECK(result.out.find("[" + rank + "] RANK=" + rank + "\n") != std::string::npos);
      CHECK(result.out.find("[" + rank + "] WORLD_SIZE=4\n") != std::string::npos);
    }
  }
}

TEST_CASE("scheduler: what contradicts it, or makes no sense under it, is named") {
  const auto fails = [](const std::string& name, const Words& arguments, const Words& variables) {
    const auto result = launch(joined(arguments, {kProbe}), variables);
    CHECK(result.exit_code == 2);
    check_text(name, result.err);
  };
  fails("scheduler_slurm_nnodes", {"--nnodes", "3"}, step(0));
  fails("scheduler_slurm_rank", {"--nnodes", "2", "--node_rank", "0"}, step(1));
  fails("scheduler_mpi_nnodes", {"--nnodes", "3"}, mpi(0));
  fails("scheduler_mpi_no_host", {}, mpi(0));
  fails("scheduler_slurm_several", {},
        joined(step(0), {"SLURM_NTASKS=4", "SLURM_TASKS_PER_NODE=2(x2)"}));
  fails("scheduler_mpi_several", {},
        joined(mpi(0), {"OMPI_COMM_WORLD_SIZE=4", "OMPI_COMM_WORLD_LOCAL_SIZE=2"}));
  fails("scheduler_allocation_nnodes", {"--nnodes", "3"},
        {"SLURM_JOB_ID=77", "SLURM_JOB_NUM_NODES=2"});
  fails("scheduler_uneven", {},
        {"SLURM_JOB_ID=77", "SLURM_JOB_NUM_NODES=2", "SLURM_TASKS_PER_NODE=2,1"});
  fails("scheduler_no_token", {}, step(0));
}

TEST_CASE("scheduler: what a configuration file says against it is named by file and line") {
  const TempDir folder;
  const std::string config = folder / "config.yaml";
  const auto fails = [&](const std::string& name, const std::string& yaml, const Words& variables) {
    std::ofstream(config) << yaml;
    const auto result = launch({"--config_file", config, kProbe}, variables);
    CHECK(result.exit_code == 2);
    check_text(name, replaced(result.err, config, "CONFIG"));
  };
  fails("scheduler_config_nnodes", "num_machines: 3\n", step(0));
  fails("scheduler_config_rank", "num_machines: 2\nmachine_rank: 0\n", step(1));
  fails("scheduler_config_allocation", "num_machines: 3\n", {"SLURM_JOB_ID=77", "SLURM_NNODES=2"});
}

TEST_CASE("scheduler: alone in a step, or told to stay here, a launcher starts its ranks itself") {
  const auto one = launch({"-n", "2", kProbe, "env=WORLD_SIZE"},
                          {"SLURM_JOB_ID=77", "SLURM_STEP_ID=0", "SLURM_PROCID=0", "SLURM_NTASKS=1",
                           "SLURM_LOCALID=0", "SLURM_NODEID=0", "SLURM_NNODES=1"});
  CHECK(one.exit_code == 0);
  CHECK(count_of(one.out, "WORLD_SIZE=2") == 2);
  const auto here = launch({"--standalone", "-n", "2", kProbe, "env=WORLD_SIZE"},
                           {"SLURM_JOB_ID=77", "SLURM_JOB_NUM_NODES=2"});
  CHECK(here.exit_code == 0);
  CHECK(count_of(here.out, "WORLD_SIZE=2") == 2);
}

TEST_CASE(
    "scheduler: in an allocation without /proc, a launcher that needs no srun starts its ranks") {
  // The ranks are a shell's: the loader finds libweft through /proc.
  const auto run = [](const std::string& options) {
    return run_process({"unshare", "-rm", "sh", "-c",
                        "mount -t tmpfs none /proc && SLURM_JOB_ID=77 SLURM_JOB_NUM_NODES=2 exec "
                        "\"$0\" " +
                            options + " -n 2 sh -c 'echo ran $WORLD_SIZE'",
                        kLauncher});
  };
  const auto alone = run("--standalone");
  if (alone.err.find("unshare") != std::string::npos)
    WEFT_SKIP("no mount namespaces: " + alone.err);
  CHECK_MESSAGE(alone.exit_code == 0, alone.err);
  CHECK(count_of(alone.out, "ran 2\n") == 2);
  const auto srun = run("");
  CHECK(srun.exit_code == 2);
  check_text("scheduler_no_proc", srun.err);
}

TEST_CASE("scheduler: in an allocation srun starts a launcher on each host") {
  bool exported = false;
  SUBCASE("where the script exports nothing") {}
  SUBCASE("where it exports MASTER_ADDR and MASTER_PORT") { exported = true; }
  int free_port = 0;
  { const weft::dist::detail::Fd probe = weft::dist::detail::listen_on("127.0.0.6", free_port); }
  const std::string port = std::to_string(free_port);
  const TempDir folder;
  // Starts its command twice, as two tasks on two hosts, and exits with the higher code.
  std::ofstream(folder / "srun") << R"(#!/bin/sh
echo "$*" > "$(dirname "$0")/arguments"
while case $1 in -*) true;; *) false;; esac; do shift; done
export SLURM_STEP_ID=0 SLURM_NTASKS=2 SLURM_LOCALID=0 SLURM_NNODES=2
export SLURM_TASKS_PER_NODE='1(x2)' SLURM_STEP_NODELIST='127.0.0.[6-7]'
SLURM_PROCID=0 SLURM_NODEID=0 "$@" & one=$!
SLURM_PROCID=1 SLURM_NODEID=1 "$@" & two=$!
wait $one; a=$?
wait $two; b=$?
[ $a -gt $b ] && exit $a
exit $b
)";
  ::chmod((folder / "srun").c_str(), 0755);
  const std::string path =
      "PATH=" + folder.path().string() + ":" + std::string(std::getenv("PATH"));
  Words variables = {path, "SLURM_JOB_ID=77", "SLURM_JOB_NUM_NODES=2",
                     "SLURM_TASKS_PER_NODE=2(x2)"};
  // Batch scripts export them for programs without a launcher.
  if (exported) variables = joined(variables, {"MASTER_ADDR=127.0.0.6", "MASTER_PORT=" + port});
  const auto result = launch({kProbe, "env=RANK", "env=WORLD_SIZE", "--", "a b"}, variables);
  CHECK(result.exit_code == 0);
  CHECK_MESSAGE(result.err.empty(), result.err);
  for (const char* line : {"[0] RANK=0\n", "[3] RANK=3\n", "[3] WORLD_SIZE=4\n", "[2] a b\n"})
    CHECK_MESSAGE(count_of(result.out, line) == 1, line);
  std::ifstream file(folder / "arguments");
  std::string arguments;
  std::getline(file, arguments);
  CHECK(arguments.find("--nodes=2 --ntasks=2 --ntasks-per-node=1 ") == 0);
  CHECK(arguments.find(" launch -n 2 " + kProbe) != std::string::npos);
}
