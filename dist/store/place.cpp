#include <weft/dist/store/place.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <initializer_list>
#include <string_view>
#include <utility>
#include <vector>

#include <weft/core/base/check.hpp>
#include <weft/core/base/env.hpp>
#include <weft/dist/store/nodelist.hpp>

namespace weft::inline v0::dist {

using weft::detail::fail;

namespace {

constexpr int64_t kMostRanks = 1 << 20;

// What SLURM calls a batch script, an interactive shell and a job's external processes, none of
// which is a step with tasks.
constexpr std::array<std::string_view, 6> kNoSteps = {"4294967291", "4294967290",  "4294967292",
                                                      "batch",      "interactive", "extern"};

/// A variable that is set, with its value.
struct Number {
  const char* name = nullptr;
  int value = 0;
};

std::optional<Number> find_number(std::initializer_list<const char*> names, int64_t low) {
  for (const char* name : names)
    if (const auto value = env::get_int(name, low, kMostRanks))
      return Number{name, static_cast<int>(*value)};
  return std::nullopt;
}

std::optional<std::string> find_text(std::initializer_list<const char*> names) {
  for (const char* name : names)
    if (auto value = env::get(name)) return value;
  return std::nullopt;
}

[[noreturn]] void contradiction(const Number& a, const Number& b) {
  fail<ArgumentError>("environment: {}={} contradicts {}={}; unset one of them", a.name, a.value,
                      b.name, b.value);
}

void check_below(const Number& index, const Number& count) {
  if (index.value >= count.value)
    fail<ArgumentError>("environment: {}={} but {}={}; they count from 0", index.name, index.value,
                        count.name, count.value);
}

Number needed(std::initializer_list<const char*> names, int64_t low, const Number& because) {
  const auto number = find_number(names, low);
  if (!number)
    fail<ArgumentError>(
        "environment: {}={} but {} is not set; set both, or start the program with the launcher",
        because.name, because.value, *names.begin());
  return *number;
}

/// RANK and WORLD_SIZE, where they are set, against what started this process says.
void check_agrees(const std::optional<Number>& own, const char* name, int value) {
  if (own && own->value != value) contradiction(*own, {name, value});
}

/// LOCAL_RANK, LOCAL_WORLD_SIZE, GROUP_RANK, GROUP_WORLD_SIZE. Without the sizes all ranks are
/// taken to be on one host.
void place_in_node(Place& place, const Number& rank, const Number& size) {
  const auto local_size = find_number({"LOCAL_WORLD_SIZE"}, 1);
  const auto nodes = find_number({"GROUP_WORLD_SIZE"}, 1);
  if (local_size && local_size->value > size.value) contradiction(*local_size, size);
  if (nodes && nodes->value > size.value) contradiction(*nodes, size);
  place.local_size = local_size ? local_size->value : size.value;
  if (!local_size && nodes) {
    if (size.value % nodes->value != 0) needed({"LOCAL_WORLD_SIZE"}, 1, *nodes);
    place.local_size = size.value / nodes->value;
  }
  const bool even = size.value % place.local_size == 0;
  if (nodes && (nodes->value == 1) != place.one_host() && local_size)
    contradiction(*nodes, *local_size);
  place.nodes = nodes  ? nodes->value
                : even ? size.value / place.local_size
                       : needed({"GROUP_WORLD_SIZE"}, 1, *local_size).value;

  const auto local_rank = find_number({"LOCAL_RANK"}, 0);
  const Number local_count{local_size ? "LOCAL_WORLD_SIZE" : size.name, place.local_size};
  if (local_rank) check_below(*local_rank, local_count);
  if (local_rank && place.one_host() && local_rank->value != rank.value) {
    if (!local_size && !nodes) needed({"LOCAL_WORLD_SIZE"}, 1, *local_rank);
    contradiction(*local_rank, rank);
  }
  if (!local_rank && !even) needed({"LOCAL_RANK"}, 0, local_count);
  place.local_rank = local_rank ? local_rank->value : rank.value % place.local_size;

  const auto node_rank = find_number({"GROUP_RANK"}, 0);
  if (node_rank) check_below(*node_rank, {nodes ? "GROUP_WORLD_SIZE" : size.name, place.nodes});
  if (!node_rank && !even) needed({"GROUP_RANK"}, 0, local_count);
  place.node_rank = node_rank ? node_rank->value : rank.value / place.local_size;
}

std::string own_job(const std::optional<std::string>& launcher_job,
                    const std::optional<std::string>& torchrun_job) {
  if (launcher_job) return *launcher_job;
  const auto host = env::get("MASTER_ADDR"), port = env::get("MASTER_PORT");
  if (torchrun_job) return fmt::format("torchrun-{}-{}", *torchrun_job, port.value_or(""));
  return host && port ? fmt::format("{}-{}", *host, *port) : "";
}

/// What RANK, WORLD_SIZE and the like say.
Place own_place(const Number& rank, const Number& size) {
  check_below(rank, size);
  const auto launcher_job = env::get("WEFT_JOB_ID");
  const auto torchrun_job = env::get("TORCHELASTIC_RUN_ID");
  Place place;
  place.rank = rank.value;
  place.size = size.value;
  place.source = launcher_job ? "launcher" : torchrun_job ? "torchrun" : "environment";
  place.job = own_job(launcher_job, torchrun_job);
  place.first_host = env::get("MASTER_ADDR").value_or("");
  place_in_node(place, rank, size);
  return place;
}

}  // namespace

namespace detail {

std::optional<Place> mpi_place() {
  const auto rank = find_number({"OMPI_COMM_WORLD_RANK"}, 0);
  if (!rank) return std::nullopt;
  const Number size = needed({"OMPI_COMM_WORLD_SIZE"}, 1, *rank);
  const Number local_rank = needed({"OMPI_COMM_WORLD_LOCAL_RANK"}, 0, *rank);
  const Number local_size = needed({"OMPI_COMM_WORLD_LOCAL_SIZE"}, 1, *rank);
  check_below(*rank, size);
  check_below(local_rank, local_size);
  if (local_size.value > size.value) contradiction(local_size, size);
  const auto pmix_rank = find_number({"PMIX_RANK"}, 0);
  if (pmix_rank && pmix_rank->value != rank->value) contradiction(*rank, *pmix_rank);

  Place place;
  place.source = "Open MPI";
  place.rank = rank->value;
  place.size = size.value;
  place.local_rank = local_rank.value;
  place.local_size = local_size.value;
  place.node_rank = place.one_host() ? 0 : -1;
  place.nodes = place.one_host() ? 1 : 0;
  if (const auto job = env::get("PMIX_NAMESPACE")) place.job = "mpi-" + *job;
  if (const auto host = env::get("MASTER_ADDR"))
    place.first_host = *host;
  else if (const auto hosts = env::get("SLURM_JOB_NODELIST"))  // mpirun inside an allocation
    place.first_host = expand_nodelist(*hosts, "environment: SLURM_JOB_NODELIST").front();
  return place;
}

std::optional<Place> slurm_place() {
  // A batch script has SLURM_PROCID too, but is no task of a step.
  const auto step = find_text({"SLURM_STEP_ID", "SLURM_STEPID"});
  const auto rank = find_number({"SLURM_PROCID"}, 0);
  if (!step || !rank || std::find(kNoSteps.begin(), kNoSteps.end(), *step) != kNoSteps.end())
    return std::nullopt;
  const Number size = needed({"SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "SLURM_NPROCS"}, 1, *rank);
  const Number nodes =
      needed({"SLURM_STEP_NUM_NODES", "SLURM_NNODES", "SLURM_JOB_NUM_NODES"}, 1, *rank);
  const Number local_rank = needed({"SLURM_LOCALID"}, 0, *rank);
  const Number node_rank = needed({"SLURM_NODEID"}, 0, *rank);
  check_below(*rank, size);
  check_below(node_rank, nodes);

  Place place;
  place.source = "SLURM";
  place.rank = rank->value;
  place.size = size.value;
  place.local_rank = local_rank.value;
  place.node_rank = node_rank.value;
  place.nodes = nodes.value;
  place.local_size = size.value;
  if (nodes.value > 1) {
    const bool of_step = env::get("SLURM_STEP_TASKS_PER_NODE").has_value();
    const char* name = of_step ? "SLURM_STEP_TASKS_PER_NODE" : "SLURM_TASKS_PER_NODE";
    const auto text = env::get(name);
    if (!text)
      fail<ArgumentError>("environment: {}={} but SLURM_TASKS_PER_NODE is not set; srun sets it",
                          nodes.name, nodes.value);
    const std::vector<int> counts = expand_counts(*text, fmt::format("environment: {}", name));
    int64_t sum = 0;
    for (const int count : counts) sum += count;
    if (counts.size() != static_cast<size_t>(nodes.value) || sum != size.value)
      fail<ArgumentError>("environment: {}={} contradicts {}={} and {}={}; unset it", name, *text,
                          nodes.name, nodes.value, size.name, size.value);
    place.local_size = counts[static_cast<size_t>(node_rank.value)];
  }
  check_below(local_rank, {"SLURM_TASKS_PER_NODE", place.local_size});
  const auto cluster = env::get("SLURM_CLUSTER_NAME");
  place.job = fmt::format("slurm-{}{}{}.{}", cluster.value_or(""), cluster ? "-" : "",
                          find_text({"SLURM_JOB_ID", "SLURM_JOBID"}).value_or(""), *step);
  if (const auto host = env::get("MASTER_ADDR")) {
    place.first_host = *host;
  } else if (place.nodes > 1) {
    for (const char* name : {"SLURM_STEP_NODELIST", "SLURM_NODELIST", "SLURM_JOB_NODELIST"}) {
      const auto text = env::get(name);
      if (!text) continue;
      place.first_host = expand_nodelist(*text, fmt::format("environment: {}", name)).front();
      break;
    }
  }
  return place;
}

}  // namespace detail

Place place_from_environment() {
  const auto rank = find_number({"RANK"}, 0), size = find_number({"WORLD_SIZE"}, 1);
  const bool launched = env::get("WEFT_JOB_ID") || env::get("TORCHELASTIC_RUN_ID");
  if (launched && rank && size) return own_place(*rank, *size);

  // Note [Launchers inside launchers]
  // mpirun inside a SLURM allocation is started by srun, so its ranks also see the variables of a
  // step that has one task per host: what is further inside holds, the rest is not compared. That
  // leaves variables set by hand, or exported long ago, against what really started the process.
  if (const auto mpi = detail::mpi_place()) {
    check_agrees(rank, "OMPI_COMM_WORLD_RANK", mpi->rank);
    check_agrees(size, "OMPI_COMM_WORLD_SIZE", mpi->size);
    return *mpi;
  }
  if (const auto slurm = detail::slurm_place()) {
    check_agrees(rank, "SLURM_PROCID", slurm->rank);
    check_agrees(size, "SLURM_NTASKS", slurm->size);
    check_agrees(find_number({"PMIX_RANK"}, 0), "SLURM_PROCID", slurm->rank);
    return *slurm;
  }
  if (!rank && !size) {
    if (const auto pmix = find_number({"PMIX_RANK"}, 0)) needed({"WORLD_SIZE"}, 1, *pmix);
    return {};
  }
  if (!size) needed({"WORLD_SIZE"}, 1, *rank);
  if (!rank && size->value > 1) needed({"RANK"}, 0, *size);
  return own_place(rank.value_or(Number{"RANK", 0}), *size);
}

}  // namespace weft::inline v0::dist
