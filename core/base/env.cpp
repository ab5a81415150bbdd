#include <weft/core/base/env.hpp>

#include <charconv>
#include <cstdlib>
#include <string_view>

#include <weft/core/base/check.hpp>

namespace weft::inline v0::env {

namespace {

constexpr Variable kVariables[] = {
    {"WEFT_NUM_THREADS", "threads that one process may use (default: its share of the cores)"},
    {"OMP_NUM_THREADS",
     "the launcher takes it where neither WEFT_NUM_THREADS nor --num_cpu_threads_per_process is "
     "given, and sets it for ranks where it is unset"},
    {"WEFT_LOG_LEVEL", "trace, debug, info, warn, error or off (default: warn)"},
    {"WEFT_CPU_LEVEL", "highest CPU level whose kernels are used: baseline, avx2, avx512, amx"},
    {"WEFT_DETERMINISTIC", "1: results equal to the bit from run to run and across thread counts"},
    {"WEFT_GOLDENS", "folder that the golden tests read instead of tests/goldens"},
    {"WEFT_DATA", "folder that the samples read their data from"},
    {"WEFT_TOKEN", "the job's secret, given to the ranks by the launcher"},
    {"WEFT_TOKEN_FILE", "file with the job's secret, where no launcher is used on several hosts"},
    {"WEFT_JOB_ID", "name of the job, given to the ranks by the launcher"},
    {"WEFT_STORE", "address of the job's store, given to the ranks by the launcher"},
    {"WEFT_CRASH_FD", "descriptor of the job's crash records, given to the ranks by the launcher"},
    {"WEFT_COLLECTIVE_TIMEOUT", "seconds that a collective may wait for a rank (default: 600)"},
    {"WEFT_SOCKET_IFNAME",
     "network interface for data between hosts (default: the one that leads to the job's store)"},
    {"WEFT_STATS", "1: at its end a group says how late each rank came to its collectives"},
    {"WEFT_JOIN_TIMEOUT", "seconds that ranks may take to find each other (default: 120)"},
    {"WEFT_GRACE", "seconds between SIGTERM and SIGKILL (default: 10)"},
    {"WEFT_HOME",
     "folder of weft's own files, such as default_config.yaml (default: ~/.cache/weft)"},
    {"XDG_CACHE_HOME",
     "folder of caches: without WEFT_HOME, weft's own files are in its folder weft"},
    {"WEFT_CONFIG_FILE",
     "configuration file of the launcher; none: none at all (default: default_config.yaml)"},
    {"WEFT_MIXED_PRECISION", "precision of an Accelerator whose program names none (default: no)"},
    {"WEFT_GRADIENT_ACCUMULATION_STEPS",
     "micro-batches to a step, where the program does not say (default: 1)"},
    {"ACCELERATE_MIXED_PRECISION", "the same as WEFT_MIXED_PRECISION, which goes before it"},
    {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS",
     "the same as WEFT_GRADIENT_ACCUMULATION_STEPS, which goes before it"},
    {"RANK", "this process's rank among all ranks"},
    {"LOCAL_RANK", "this process's rank on its host"},
    {"WORLD_SIZE", "number of ranks"},
    {"LOCAL_WORLD_SIZE", "number of ranks on this host"},
    {"MASTER_ADDR", "host of the job's store"},
    {"MASTER_PORT", "port of the job's store"},
    {"GROUP_RANK", "index of this process's host among the job's hosts"},
    {"GROUP_WORLD_SIZE", "number of hosts"},
    {"TORCHELASTIC_USE_AGENT_STORE", "set by torchrun: its own store listens at MASTER_PORT"},
    {"RESTART_COUNT", "how often the launcher has started the job again"},
    {"TORCHELASTIC_RUN_ID", "set by torchrun: name of the job"},
    {"OMPI_COMM_WORLD_RANK", "set by Open MPI: this process's rank"},
    {"OMPI_COMM_WORLD_SIZE", "set by Open MPI: number of ranks"},
    {"OMPI_COMM_WORLD_LOCAL_RANK", "set by Open MPI: this process's rank on its host"},
    {"OMPI_COMM_WORLD_LOCAL_SIZE", "set by Open MPI: number of ranks on this host"},
    {"PMIX_RANK", "set by PMIx: this process's rank"},
    {"PMIX_NAMESPACE", "set by PMIx: name of the job"},
    {"SLURM_STEP_ID", "set by SLURM: number of the step; also SLURM_STEPID"},
    {"SLURM_JOB_ID", "set by SLURM: number of the allocation; also SLURM_JOBID"},
    {"SLURM_CLUSTER_NAME", "set by SLURM: name of the cluster"},
    {"SLURM_PROCID", "set by SLURM: this process's rank in its step"},
    {"SLURM_STEP_NUM_TASKS", "set by SLURM: ranks of the step; else SLURM_NTASKS, SLURM_NPROCS"},
    {"SLURM_LOCALID", "set by SLURM: this process's rank on its host"},
    {"SLURM_NODEID", "set by SLURM: index of this process's host in its step"},
    {"SLURM_STEP_NUM_NODES", "set by SLURM: hosts of the step; else SLURM_NNODES"},
    {"SLURM_STEP_TASKS_PER_NODE", "set by SLURM: ranks on each host; else SLURM_TASKS_PER_NODE"},
    {"SLURM_STEP_NODELIST", "set by SLURM: hosts of the step; else SLURM_JOB_NODELIST"},
    {"NO_COLOR", "set: the launcher colours nothing unless it is told to (--color always)"},
    {"TERM", "kind of terminal; on a dumb one the launcher colours nothing"},
    {"SLURM_JOB_NUM_NODES", "set by SLURM: hosts of the allocation; also SLURM_NNODES"},
    {"SLURM_NNODES", "set by SLURM: hosts of the step or the allocation"},
    {"SLURM_NTASKS_PER_NODE", "set by SLURM: ranks that were asked for on each host"},
    {"SLURM_TASKS_PER_NODE", "set by SLURM: ranks on each host"},
    {"SLURM_JOB_NODELIST", "set by SLURM: hosts of the allocation"},
    {"SLURMD_NODENAME", "set by SLURM: the name of this host"},
    {"PATH", "folders where the launcher looks for a program that is named without a slash"},
};

}  // namespace

std::span<const Variable> known_variables() { return kVariables; }

std::optional<std::string> get(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') return std::nullopt;
  return std::string(value);
}

std::optional<int64_t> get_int(const char* name, int64_t low, int64_t high) {
  const auto text = get(name);
  if (!text) return std::nullopt;
  int64_t value = 0;
  const char* end = text->data() + text->size();
  const auto [stop, error] = std::from_chars(text->data(), end, value);
  WEFT_CHECK(ArgumentError, error == std::errc() && stop == end && value >= low && value <= high,
             "environment: {}={} is not a whole number from {} to {}", name, *text, low, high);
  return value;
}

std::optional<bool> get_flag(const char* name) {
  const auto text = get(name);
  if (!text) return std::nullopt;
  for (const std::string_view yes : {"1", "true", "yes", "on"})
    if (*text == yes) return true;
  for (const std::string_view no : {"0", "false", "no", "off"})
    if (*text == no) return false;
  detail::fail<ArgumentError>("environment: {}={} is not a flag; use 1 or 0", name, *text);
}

}  // namespace weft::inline v0::env
