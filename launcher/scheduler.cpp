#include <weft/launcher/scheduler.hpp>

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include <weft/core/base/check.hpp>
#include <weft/core/base/env.hpp>
#include <weft/dist/store/nodelist.hpp>
#include <weft/dist/store/place.hpp>
#include <weft/launcher/error.hpp>
#include <weft/launcher/launch.hpp>
#include <weft/launcher/program.hpp>
#include <weft/launcher/refusal.hpp>

namespace weft::inline v0::launcher {

namespace {

using dist::Place;

template <class... Args>
[[noreturn]] void usage(fmt::format_string<Args...> text, Args&&... args) {
  throw LaunchError(kExitUsage, fmt::format(text, std::forward<Args>(args)...));
}

/// How the two kinds of jobs call things.
struct Words {
  std::vector<const char*> nodes;  // variables, of which the first that is set counts
  const char* rank;                // variable
  const char* one_each;            // a command that starts one launcher per host
  const char* direct;
};

Words mpi_words() {
  return {{"OMPI_COMM_WORLD_SIZE"},
          "OMPI_COMM_WORLD_RANK",
          "mpirun --map-by ppr:1:node launcher",
          "mpirun PROGRAM"};
}

Words slurm_words() {
  return {{"SLURM_STEP_NUM_NODES", "SLURM_NNODES", "SLURM_JOB_NUM_NODES"},
          "SLURM_NODEID",
          "srun --ntasks-per-node=1 launcher",
          "srun PROGRAM"};
}

const char* first_set(const std::vector<const char*>& names) {
  const auto set = std::find_if(names.begin(), names.end(),
                                [](const char* name) { return env::get(name).has_value(); });
  return set == names.end() ? names.front() : *set;
}

LaunchOptions adopt(LaunchOptions options, const Place& place, const Words& words) {
  if (place.local_size > 1)
    usage(
        "{} started {} launchers on this host; start the program itself ({}), or one launcher per "
        "host ({})",
        place.source, place.local_size, words.direct, words.one_each);
  if (place.size == 1) return options;
  if (options.given("nnodes") && options.nnodes_max != place.size)
    refuse_setting(options.setting("nnodes"), " contradicts {}={}: leave it out, {} has said it",
                   first_set(words.nodes), place.size, place.source);
  if (options.node_rank && *options.node_rank != place.rank)
    refuse_setting(options.setting("node_rank"), " contradicts {}={}: leave it out, {} has said it",
                   words.rank, place.rank, place.source);
  if (!options.given("nnodes")) options.nnodes_min = options.nnodes_max = place.size;
  options.node_rank = place.rank;
  if (options.total_ranks) options.ranks = share_of(*options.total_ranks, place.size, place.rank);
  if (options.rdzv_id.empty()) options.rdzv_id = place.job;
  Endpoint endpoint = options.rdzv_endpoint.value_or(Endpoint{});
  if (endpoint.host.empty()) endpoint.host = place.first_host;
  if (endpoint.host.empty())
    usage(
        "{} does not tell where host 0 is; give --rdzv_endpoint HOST, or set MASTER_ADDR (mpirun "
        "-x MASTER_ADDR=HOST)",
        place.source);
  options.rdzv_endpoint = endpoint;
  return options;
}

/// The tasks on each host of the allocation, where SLURM was asked for a number of them.
std::optional<int> ranks_per_node() {
  const auto per_node = env::get_int("SLURM_NTASKS_PER_NODE", 1, kMaxRanks);
  if (per_node) return static_cast<int>(*per_node);
  const auto text = env::get("SLURM_TASKS_PER_NODE");
  if (!text) return std::nullopt;
  const auto counts = dist::detail::expand_counts(*text, "environment: SLURM_TASKS_PER_NODE");
  if (std::count(counts.begin(), counts.end(), counts.front()) ==
      static_cast<std::ptrdiff_t>(counts.size()))
    return counts.front();
  usage("SLURM_TASKS_PER_NODE={}: as many ranks on every host are needed; give -n N", *text);
}

}  // namespace

LaunchOptions under_scheduler(LaunchOptions options) {
  if (options.standalone || !options.hostfile.empty() || options.controlled) return options;
  try {
    if (const auto mpi = dist::detail::mpi_place())
      return adopt(std::move(options), *mpi, mpi_words());
    if (const auto slurm = dist::detail::slurm_place())
      return adopt(std::move(options), *slurm, slurm_words());
  } catch (const ArgumentError& error) {
    throw LaunchError(kExitUsage, error.what());
  }
  return options;
}

std::optional<std::vector<std::string>> srun_command(const LaunchOptions& options) {
  if (!env::get("SLURM_JOB_ID") || options.standalone || !options.hostfile.empty() ||
      options.node_rank || options.endpoint_given || options.controlled ||
      dist::detail::mpi_place() || dist::detail::slurm_place())
    return std::nullopt;
  const char* variable = first_set({"SLURM_JOB_NUM_NODES", "SLURM_NNODES"});
  const auto nodes = env::get_int(variable, 1, 1 << 20);
  if (!nodes) return std::nullopt;
  if (options.given("nnodes") && options.nnodes_max != *nodes)
    refuse_setting(options.setting("nnodes"),
                   " contradicts {}={}: leave it out, or give --standalone for this host alone",
                   variable, *nodes);
  // A batch script of one host is on it already.
  if (*nodes == 1 && env::get("SLURMD_NODENAME")) return std::nullopt;
  const std::vector<std::string> own = own_command();
  std::vector<std::string> command = {"srun",
                                      fmt::format("--nodes={}", *nodes),
                                      fmt::format("--ntasks={}", *nodes),
                                      "--ntasks-per-node=1",
                                      "--cpu-bind=none",
                                      "--kill-on-bad-exit=0",
                                      "--quit-on-interrupt",
                                      own.at(0),
                                      "launch"};
  if (!options.ranks_given)
    if (const auto ranks = ranks_per_node()) {
      command.push_back("-n");
      command.push_back(std::to_string(*ranks));
    }
  const size_t skipped = own.size() > 1 && own[1] == "launch" ? 2 : 1;
  command.insert(command.end(), own.begin() + static_cast<std::ptrdiff_t>(skipped), own.end());
  return command;
}

void become_srun(const std::vector<std::string>& command) {
  const std::string path = find_program(command[0]);
  // The launchers' step has its own secret; srun hands the environment on by its own means.
  if (!env::get("WEFT_TOKEN") && !env::get("WEFT_TOKEN_FILE"))
    ::setenv("WEFT_TOKEN", random_token().c_str(), 1);
  // srun takes the batch script's number of tasks per host for an order.
  for (const char* name : {"SLURM_NTASKS", "SLURM_NPROCS", "SLURM_NTASKS_PER_NODE",
                           "SLURM_TASKS_PER_NODE", "SLURM_CPU_BIND"})
    ::unsetenv(name);
  std::vector<char*> argv;
  for (const std::string& word : command) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  ::execv(path.c_str(), argv.data());
  throw LaunchError(kExitNotExecutable, fmt::format("{}: {}", path, std::strerror(errno)));
}

std::vector<std::string> own_command() {
  std::error_code error;
  std::vector<std::string> command = {std::filesystem::read_symlink("/proc/self/exe", error)};
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (error || !file)
    throw LaunchError(
        kExitUsage,
        "/proc/self/exe and cmdline cannot be read; mount /proc: other hosts are told "
        "from there which launcher to start");
  for (size_t at = text.find('\0') + 1; at < text.size();) {
    const size_t end = std::min(text.find('\0', at), text.size());
    command.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return command;
}

}  // namespace weft::inline v0::launcher
