// `launcher env`: what it reports, and that it reports what does not work.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <weft/launcher/programs/env/facts.hpp>
#include <weft/tests/launcher/launched.hpp>
#include <weft/tests/support/errors.hpp>
#include <weft/tests/support/temp_dir.hpp>

using namespace weft::test;
using namespace weft::env_report;

namespace {

namespace fs = std::filesystem;

/// A machine's /proc and /sys below a folder.
class Machine {
 public:
  void put(const std::string& path, const std::string& text) {
    fs::create_directories((folder_ / path).parent_path());
    std::ofstream(folder_ / path) << text << "\n";
  }
  std::string root() const { return folder_.path().string() + "/"; }

 private:
  TempDir folder_;
};

std::string only(const Section& section, const std::string& name) {
  const std::vector<std::string> values = section.values(name);
  REQUIRE_MESSAGE(values.size() == 1, name);
  return values[0];
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

nlohmann::json report_in(const std::vector<std::string>& environment,
                         std::vector<std::string> arguments = {}) {
  arguments.insert(arguments.begin(), {"env", "--json"});
  const ProcessResult result = launch(arguments, environment);
  CHECK_MESSAGE(result.exit_code == 0, result.err);
  return nlohmann::json::parse(result.out);
}

}  // namespace

TEST_CASE("launcher env: a block with every section, as text and as JSON") {
  const ProcessResult result = launch({"env"});
  CHECK(result.exit_code == 0);
  CHECK(result.err.empty());
  const nlohmann::json report = report_in({});
  for (const char* section : {"weft", "libraries", "system", "cpu", "memory", "gpu", "network",
                              "limits", "tools", "variables", "configuration"}) {
    CHECK_MESSAGE(contains("\n" + result.out, "\n" + std::string(section) + "\n"), section);
    CHECK(report.contains(section));
  }
  const auto& weft = report["weft"];
  CHECK(weft["version"] == "0.1.0");
  CHECK(contains(weft["libweft"], "libweft.so.0.1.0"));
  CHECK(contains(weft["launcher"], "launcher/launcher"));
  for (const char* key : {"compiler", "build type", "options", "CPU levels", "CPU level"})
    CHECK_MESSAGE(!weft[key].get<std::string>().empty(), key);
  CHECK(contains(report["libraries"]["oneTBB"], "libtbb"));
  CHECK(contains(report["libraries"]["OpenSSL"], "OpenSSL 3"));
  CHECK(contains(report["network"]["lo"], "127.0.0.1"));
  CHECK(contains(report["cpu"]["CPUs"], "for this process"));
  CHECK(contains(report["memory"]["/dev/shm"], "free"));
  CHECK(contains(report["gpu"]["used by weft"], "no plugin"));
}

TEST_CASE("launcher env: secrets are masked, whatever holds them") {
  const auto report = report_in({"WEFT_TOKEN=0123456789abcdef0", "WEFT_TOKEN_FILE=/run/token",
                                 "SLURM_JWT_SECRET=hush", "WEFT_ENV=API_KEY=abc",
                                 "OMP_NUM_THREADS=3", "UNRELATED_THING=1"});
  const auto& variables = report["variables"];
  CHECK(variables["WEFT_TOKEN"] == "(set, 17 characters)");
  CHECK(variables["WEFT_TOKEN_FILE"] == "/run/token");
  CHECK(variables["SLURM_JWT_SECRET"] == "(set, 4 characters)");
  CHECK(variables["OMP_NUM_THREADS"] == "3");
  CHECK_FALSE(variables.contains("UNRELATED_THING"));
  CHECK_FALSE(contains(report.dump(), "0123456789abcdef0"));
  CHECK(masked("env", "HF_TOKEN=abc") == "HF_TOKEN=(set, 3 characters)");
  CHECK(masked("AWS_SECRET_ACCESS_KEY", "x") == "(set, 1 characters)");
  CHECK(masked("github_token", "") == "");
  CHECK(masked("OMP_PLACES", "cores") == "cores");
}

TEST_CASE("launcher env: a library that cannot be loaded is reported with the reason") {
  const TempDir folder;
  std::ofstream(folder / "libweft.so.0") << "no library";
  const auto report = report_in({"LD_LIBRARY_PATH=" + folder.path().string()});
  CHECK(contains(report["weft"]["libweft"], "cannot be loaded: "));
  CHECK(contains(report["weft"]["libweft"], "libweft.so.0"));
  CHECK(report["libraries"]["oneDNN"] == "not loaded");
  CHECK(report["memory"].contains("swap"));
}

TEST_CASE("launcher env: the CPU level that was asked for, or why there is none") {
  CHECK(contains(report_in({"WEFT_CPU_LEVEL=fast"})["weft"]["CPU level"],
                 "WEFT_CPU_LEVEL=fast is no level"));
}

TEST_CASE("launcher env: the configuration with its origins, or what is wrong with it") {
  const TempDir home;
  const std::string variable = "WEFT_HOME=" + home.path().string();
  const std::string path = home / "default_config.yaml";
  CHECK(report_in({variable})["configuration"]["file"] == "not found: " + path);
  std::ofstream(path) << "distributed_type: MULTI_CPU\nnum_processes: 3\n";
  const auto found = report_in({variable, "WEFT_GRACE=4"})["configuration"];
  CHECK(found["file"] == path);
  CHECK(contains(found["num_processes"], "3 ("));
  CHECK(contains(found["num_processes"], "default_config.yaml:2:"));
  CHECK(contains(found["grace"], "4 (WEFT_GRACE=4)"));
  std::ofstream(path) << "num_procesess: 3\n";
  CHECK(contains(report_in({variable})["configuration"]["problem"], "num_processes"));
  const auto other = report_in({variable}, {"--config_file=" + (home / "no.yaml").string()});
  CHECK(contains(other["configuration"]["problem"], "no.yaml"));
}

TEST_CASE("launcher env: another machine's CPUs, NUMA nodes and limits") {
  Machine machine;
  machine.put("proc/cpuinfo", "processor\t: 0\nmodel name\t: Old One\nflags\t\t: fpu avx avx2");
  machine.put("sys/devices/system/node/node0/cpulist", "0-3");
  machine.put("sys/devices/system/node/node0/meminfo", "Node 0 MemTotal:       2097152 kB");
  machine.put("sys/devices/system/node/node1/cpulist", "4-7");
  machine.put("sys/devices/system/node/node1/meminfo", "Node 1 MemTotal:       1048576 kB");
  machine.put("proc/self/cgroup", "0::/user/job");
  machine.put("sys/fs/cgroup/user/job/cpu.max", "150000 100000");
  machine.put("sys/fs/cgroup/user/job/memory.max", "max");
  machine.put("sys/fs/cgroup/user/memory.max", "1073741824");
  const Section cpu = cpu_section(machine.root());
  CHECK(only(cpu, "model") == "Old One");
  CHECK(only(cpu, "features") == "avx avx2");
  CHECK(only(cpu, "control group") == "at most 1.50 CPUs");
  CHECK(cpu.values("NUMA nodes") ==
        std::vector<std::string>{"node0: CPUs 0-3, 2 GiB", "node1: CPUs 4-7, 1 GiB"});

  machine.put("proc/meminfo", "MemTotal: 4194304 kB\nMemAvailable: 1048576 kB\nSwapTotal: 0 kB");
  machine.put("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never");
  machine.put("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "3");
  machine.put("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "2");
  const Section memory = memory_section(machine.root());
  CHECK(only(memory, "memory") == "4 GiB, 1 GiB available");
  CHECK(only(memory, "swap") == "0 B, unknown free");
  CHECK(only(memory, "control group") == "1 GiB");
  CHECK(only(memory, "transparent huge pages") == "madvise");
  CHECK(only(memory, "the same, shared memory") == "unknown");
  CHECK(only(memory, "huge pages").starts_with("2 MiB: 3 reserved, 2 free, shared: "));

  machine.put("proc/self/cgroup", "4:memory:/job\n3:cpu:/");
  machine.put("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "9223372036854771712");
  CHECK(only(memory_section(machine.root()), "control group") == "none");

  machine.put("sys/class/net/ib0/operstate", "up");
  machine.put("sys/class/net/ib0/speed", "200000");
  machine.put("sys/class/net/ib0/mtu", "4092");
  machine.put("sys/class/infiniband/mlx5_0/node_desc", "x");
  const Section network = network_section(machine.root());
  CHECK(only(network, "ib0") == "up, 200000 Mbit/s, MTU 4092, no address");
  CHECK(only(network, "RDMA") == "mlx5_0");

  machine.put("proc/driver/nvidia/version", "NVRM version: 550.54");
  machine.put("proc/driver/nvidia/gpus/0000:01:00.0/information", "Model: \t\t H100");
  const Section gpu = gpu_section(machine.root());
  CHECK(only(gpu, "NVIDIA driver") == "NVRM version: 550.54");
  CHECK(only(gpu, "cards") == "H100 (0000:01:00.0)");
}

TEST_CASE("launcher env: nothing to read is said, not left out") {
  const Machine empty;
  CHECK(only(cpu_section(empty.root()), "model") == "unknown");
  CHECK(only(cpu_section(empty.root()), "NUMA nodes") == "unknown");
  CHECK(only(memory_section(empty.root()), "memory") == "unknown, unknown available");
  CHECK(only(memory_section(empty.root()), "huge pages") == "none");
  CHECK(only(gpu_section(empty.root()), "cards") == "none");
  CHECK(only(network_section(empty.root()), "RDMA") == "none");
  CHECK(only(system_section(empty.root()), "distribution") == "unknown");
  CHECK(bytes_text(0) == "0 B");
  CHECK(bytes_text(1536) == "1.5 KiB");
  CHECK(bytes_text(0x1p60) == "1 EiB");
}

TEST_CASE("launcher env: bytes that are no text do not spoil the JSON, arguments are checked") {
  const auto report = report_in({"OMP_DISPLAY=\xff\xfe"});
  CHECK(report["variables"].contains("OMP_DISPLAY"));
  const ProcessResult unknown = launch({"env", "--yaml"});
  CHECK(unknown.exit_code == 2);
  CHECK(compare_error_text("env_unknown_argument", unknown.err.substr(0, unknown.err.find('\n'))) ==
        "");
  const ProcessResult missing = launch({"env", "--config_file"});
  CHECK(missing.exit_code == 2);
  CHECK(compare_error_text("env_value_missing", missing.err.substr(0, missing.err.find('\n'))) ==
        "");
  CHECK(contains(launch({"help", "env"}).out, "paste all of it"));
}
