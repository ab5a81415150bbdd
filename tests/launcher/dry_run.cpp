// `--dry_run`: what it shows, and that it ends as the start would.
#include <doctest/doctest.h>

#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <regex>
#include <string>
#include <vector>

#include <weft/tests/launcher/launched.hpp>
#include <weft/tests/support/errors.hpp>
#include <weft/tests/support/temp_dir.hpp>

using namespace weft::test;

namespace {

using Words = std::vector<std::string>;

const std::string kSecret = "0123456789abcdef0123456789abcdef";
const Words kToken = {"WEFT_TOKEN=" + kSecret};

Words joined(Words a, const Words& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

void write_file(const std::string& path, const std::string& text, mode_t mode = 0644) {
  std::ofstream(path) << text;
  ::chmod(path.c_str(), mode);
}

/// The dry run and the start end with the same lines and the same code.
void same_error(const Words& arguments, const Words& variables = {}) {
  const auto start = launch(arguments, variables);
  const auto dry = launch(joined({"--dry_run"}, arguments), variables);
  CAPTURE(start.err);
  CHECK(start.exit_code != 0);
  CHECK(dry.exit_code == start.exit_code);
  CHECK(dry.err == start.err);
  CHECK(dry.out.empty());
}

bool has(const ProcessResult& result, const std::string& text) {
  return result.out.find(text) != std::string::npos;
}

}  // namespace

TEST_CASE("launcher: --dry-run prints what would run and where each value comes from") {
  const TempDir folder;
  std::ofstream(folder / "f.yaml") << "num_processes: 2\ngradient_accumulation_steps: 4\n";
  const std::string file = folder / "f.yaml";
  const auto result = launch({"--dry-run", "--config_file", file, "--env", "A=b c", "--grace", "3",
                              kProbe, "env=A", "it's"});
  CHECK(result.exit_code == 0);
  CHECK(result.err.empty());
  const std::string out = result.out;
  CHECK(out.starts_with("2 ranks on this host:\nrank 0: RANK=0 LOCAL_RANK=0 WORLD_SIZE=2 "));
  CHECK(out.find("\nrank 1: RANK=1 LOCAL_RANK=1 ") != std::string::npos);
  CHECK(count_of(out, " 'A=b c'") == 2);
  CHECK(count_of(out, " WEFT_GRADIENT_ACCUMULATION_STEPS=4 ") == 2);
  CHECK(count_of(out, " MASTER_PORT=<at start> ") == 2);
  CHECK(count_of(out, kProbe + " env=A 'it'\\''s'\n") == 2);
  CHECK(out.find("TOKEN") == std::string::npos);
  CHECK(std::regex_search(out, std::regex("\nnum_processes +2 +" + file + ":1:1\n")));
  CHECK(std::regex_search(out, std::regex("\ngrace +3 +--grace\n")));
  CHECK(std::regex_search(out, std::regex("\njoin_timeout +120 +default\n")));
  // On the second of two hosts, with ranks that do not divide.
  const auto second = launch({"--dry_run", "--nnodes", "2", "--node_rank", "1", "--num_processes",
                              "5", "--rdzv_endpoint", "node0:2000", kProbe},
                             kToken);
  CHECK(second.exit_code == 0);
  CHECK(
      second.out.starts_with("2 ranks on this host, number 1 of 2:\nrank 3: RANK=3 "
                             "LOCAL_RANK=0 WORLD_SIZE=5 LOCAL_WORLD_SIZE=2 "));
  CHECK(second.out.find("\nrank 4: RANK=4 LOCAL_RANK=1 ") != std::string::npos);
  CHECK(count_of(second.out, " MASTER_ADDR=node0 ") == 2);
  // What cannot be started says so behind the values.
  const auto later = launch({"--dry_run", "--zero_stage", "1", kProbe});
  CHECK(later.exit_code == 2);
  CHECK(std::regex_search(later.out, std::regex("\nzero_stage +1 +--zero_stage\n")));
  CHECK(later.err ==
        "launcher: --zero_stage 1: ZeRO comes with a later version; leave out "
        "--zero_stage or set it to 0\n");
  CHECK(launch({"--dry_run", "./no-such-program"}).exit_code == 127);
}

TEST_CASE("dry run: one of several launchers") {
  const Words two = {"--dry_run", "--nnodes", "2", "-n", "2"};
  // This host has the endpoint, and so is number 0.
  const auto first = launch(joined(two, {"--rdzv_endpoint", "127.0.0.2:2000", kProbe}), kToken);
  CHECK(first.exit_code == 0);
  CHECK(
      first.out.starts_with("2 ranks on this host, number 0 of 2, here as if each had 2 ranks:\n"
                            "rank 0: RANK=0 LOCAL_RANK=0 WORLD_SIZE=4 "));
  CHECK(count_of(first.out, " MASTER_ADDR=127.0.0.2 MASTER_PORT=2000 ") == 2);
  CHECK(count_of(first.out, " WEFT_STORE=tcp://127.0.0.2:2000 ") == 2);
  CHECK_FALSE(has(first, kSecret));
  // Another one's number is settled at the start.
  const auto other = launch(joined(two, {kProbe}), joined(kToken, {"MASTER_ADDR=192.0.2.1"}));
  CHECK(other.exit_code == 0);
  CHECK(has(other, "number ? of 2, here as if it were 0, here as if each had 2 ranks:\n"));
  CHECK(count_of(other.out, " MASTER_ADDR=192.0.2.1 MASTER_PORT=<at start> ") == 2);
  CHECK(std::regex_search(other.out,
                          std::regex("\nmain_process_ip +192.0.2.1 +MASTER_ADDR=192.0.2.1\n")));
  const auto named = launch({"--dry_run", "--rdzv_id", "job7", kProbe});
  CHECK(has(named, " WEFT_JOB_ID=job7 WEFT_LAUNCHER_ID=<at start> "));
  CHECK(has(named, " MASTER_ADDR=127.0.0.1 MASTER_PORT=<at start> "));
}

TEST_CASE("dry run: what the start would refuse before it does anything") {
  const TempDir folder;
  const std::string file = folder / "hosts";
  same_error({"--nnodes", "2", kProbe});
  same_error({"--nnodes", "2", "--rdzv_endpoint", "127.0.0.2", kProbe});
  same_error({"--nnodes", "2", "--rdzv_endpoint", "127.0.0.2", "./no-such-program"});
  same_error({"--nnodes", "2", kProbe}, {"MASTER_ADDR=a", "MASTER_PORT=many"});
  same_error({"--hostfile", file, kProbe});
  write_file(file, "127.0.0.2 slots=2\n127.0.0.3 slots=none\n");
  same_error({"--hostfile", file, kProbe});
  write_file(file, "127.0.0.2 slots=2\n127.0.0.3\n");
  same_error({"--hostfile", file, "./no-such-program"});
  same_error({"--hostfile", file, "-n", "3", kProbe});
  same_error({"--hostfile", file, "--nnodes", "3", kProbe});
  same_error({"--hostfile", file, "--ssh", "no-such-ssh", kProbe});
  same_error({"--hostfile", file, "--ssh", " ", kProbe});
  same_error({"--hostfile", file, kProbe}, {"WEFT_TOKEN_FILE=" + file + "x"});
  same_error({"--nnodes", "2", "--zero_stage", "1", kProbe});
}

TEST_CASE("dry run: a folder for logs that cannot be made") {
  const TempDir folder;
  const std::string file = folder / "file";
  write_file(file, "no folder");
  for (const std::string& logs : {file, file + "/logs"}) {
    const Words arguments = {"--log_dir", logs, "-n", "2", kProbe};
    CHECK(launch(arguments).exit_code == 2);
    const auto dry = launch(joined({"--dry_run"}, arguments));
    CHECK(dry.exit_code == 2);
    CHECK(dry.err == "launcher: --log_dir: cannot make the folder " + logs + ": Not a directory\n");
  }
  CHECK(launch({"--dry_run", "--log_dir", folder / "a/b", kProbe}).exit_code == 0);
  CHECK_FALSE(std::ifstream(folder / "a").good());
}

TEST_CASE("dry run: a hostfile's hosts with their ranks, and what starts their launchers") {
  const TempDir folder;
  const std::string file = folder / "hosts", log = folder / "log";
  write_file(file, "127.0.0.2 slots=2\nuser@192.0.2.1\n");
  write_file(folder / "ssh", "#!/bin/sh\necho started >> " + log + "\n", 0755);
  const std::string path =
      "PATH=" + folder.path().string() + ":" + std::string(std::getenv("PATH"));
  const auto result =
      launch({"--dry_run", "--hostfile", file, "--rdzv_endpoint", "127.0.0.2:2000", kProbe, "a b"},
             {path, kToken[0], "WEFT_NUM_THREADS", "OMP_NUM_THREADS"});
  CHECK(result.exit_code == 0);
  CHECK_MESSAGE(result.err.empty(), result.err);
  CHECK(result.out.starts_with("3 ranks on 2 hosts of " + file +
                               ":\nhost 0, 127.0.0.2: 2 ranks, started by: " + kLauncher +
                               " remote\nrank 0: RANK=0 "));
  CHECK(has(result, "\nhost 1, user@192.0.2.1: 1 rank, started by: " + (folder / "ssh").string() +
                        " -o BatchMode=yes user@192.0.2.1 'exec '\\''" + kLauncher +
                        "'\\'' remote'\nrank 2: RANK=2 LOCAL_RANK=0 WORLD_SIZE=3 "));
  CHECK(count_of(result.out, " MASTER_ADDR=127.0.0.2 MASTER_PORT=2000 ") == 3);
  CHECK(count_of(result.out, kProbe + " 'a b'\n") == 3);
  CHECK(count_of(result.out, " WEFT_NUM_THREADS=<at start> ") == 1);  // a share of other CPUs
  CHECK_FALSE(has(result, kSecret));
  CHECK_FALSE(std::ifstream(log).good());
}

TEST_CASE("dry run: in an allocation the srun that would start launchers, in a step its place") {
  const TempDir folder;
  const std::string log = folder / "log";
  write_file(folder / "srun", "#!/bin/sh\necho started >> " + log + "\n", 0755);
  const std::string path =
      "PATH=" + folder.path().string() + ":" + std::string(std::getenv("PATH"));
  const Words job = {path, "SLURM_JOB_ID=77", "SLURM_JOB_NODELIST=n[1-2]", "MASTER_ADDR=n1"};
  const Words allocation = joined(job, {"SLURM_JOB_NUM_NODES=2"});
  const auto shown = launch({"--dry-run", "-n", "2", kProbe, "--dry-run"}, allocation);
  CHECK(shown.exit_code == 0);
  CHECK(shown.out.starts_with("job 77 of SLURM: a launcher on each host, started by\n  " +
                              (folder / "srun").string() + " --nodes=2 --ntasks=2 "));
  CHECK(has(shown, " " + kLauncher + " launch -n 2 " + kProbe + " --dry-run\nhosts: n1 n2\n"));
  CHECK_FALSE(std::ifstream(log).good());
  same_error({"--nnodes", "3", kProbe}, allocation);
  same_error({kProbe}, {"PATH=/no/such", "SLURM_JOB_ID=77", "SLURM_JOB_NUM_NODES=2"});

  const Words step = {"SLURM_JOB_ID=77",
                      "SLURM_STEP_ID=0",
                      "SLURM_PROCID=1",
                      "SLURM_NTASKS=2",
                      "SLURM_LOCALID=0",
                      "SLURM_NODEID=1",
                      "SLURM_NNODES=2",
                      "SLURM_TASKS_PER_NODE=1(x2)",
                      "SLURM_STEP_NODELIST=127.0.0.[4-5]"};
  const auto one = launch({"--dry_run", "-n", "2", kProbe}, joined(step, kToken));
  CHECK(one.exit_code == 0);
  CHECK(
      one.out.starts_with("2 ranks on this host, number 1 of 2, here as if each had 2 ranks:\n"
                          "rank 2: RANK=2 LOCAL_RANK=0 WORLD_SIZE=4 "));
  CHECK(has(one, " MASTER_ADDR=127.0.0.4 "));
  CHECK(std::regex_search(one.out, std::regex("\nnnodes +2 +SLURM\n")));
  CHECK(std::regex_search(one.out, std::regex("\nnode_rank +1 +SLURM\n")));
  CHECK(std::regex_search(one.out, std::regex("\nrdzv_endpoint +127.0.0.4 +SLURM\n")));
  same_error({"-n", "2", kProbe}, step);
  same_error({"--nnodes", "3", kProbe}, joined(step, kToken));

  const Words mpi = {"OMPI_COMM_WORLD_RANK=0", "OMPI_COMM_WORLD_SIZE=2",
                     "OMPI_COMM_WORLD_LOCAL_RANK=0", "OMPI_COMM_WORLD_LOCAL_SIZE=1",
                     "PMIX_NAMESPACE=test"};
  const auto under = launch({"--dry_run", "--num_processes", "3", kProbe},
                            joined(mpi, joined(kToken, {"MASTER_ADDR=127.0.0.4"})));
  CHECK(under.exit_code == 0);
  CHECK(under.out.starts_with("2 ranks on this host, number 0 of 2:\nrank 0: RANK=0 "));
  CHECK(std::regex_search(under.out, std::regex("\nnnodes +2 +Open MPI\n")));
  same_error({kProbe}, mpi);
}
