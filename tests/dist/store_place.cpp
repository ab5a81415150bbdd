// The place of a process by its environment.
#include <doctest/doctest.h>

#include <string>

#include <weft/core/base/error.hpp>
#include <weft/dist/store/place.hpp>
#include <weft/tests/support/environment.hpp>
#include <weft/tests/support/errors.hpp>

using namespace weft;
using namespace weft::dist;
using namespace weft::test;

namespace {

using Changes = std::vector<std::pair<std::string, std::optional<std::string>>>;

/// All variables that place a process unset, but for `set`.
Changes only(const Changes& set) {
  Changes changes;
  for (const char* name : {"RANK",
                           "WORLD_SIZE",
                           "LOCAL_RANK",
                           "LOCAL_WORLD_SIZE",
                           "GROUP_RANK",
                           "GROUP_WORLD_SIZE",
                           "MASTER_ADDR",
                           "MASTER_PORT",
                           "WEFT_JOB_ID",
                           "TORCHELASTIC_RUN_ID",
                           "OMPI_COMM_WORLD_RANK",
                           "OMPI_COMM_WORLD_SIZE",
                           "OMPI_COMM_WORLD_LOCAL_RANK",
                           "OMPI_COMM_WORLD_LOCAL_SIZE",
                           "OMPI_MCA_ess_base_jobid",
                           "PMIX_RANK",
                           "PMIX_NAMESPACE",
                           "SLURM_STEP_ID",
                           "SLURM_STEPID",
                           "SLURM_JOB_ID",
                           "SLURM_JOBID",
                           "SLURM_CLUSTER_NAME",
                           "SLURM_PROCID",
                           "SLURM_STEP_NUM_TASKS",
                           "SLURM_NTASKS",
                           "SLURM_NPROCS",
                           "SLURM_LOCALID",
                           "SLURM_NODEID",
                           "SLURM_STEP_NUM_NODES",
                           "SLURM_NNODES",
                           "SLURM_JOB_NUM_NODES",
                           "SLURM_STEP_TASKS_PER_NODE",
                           "SLURM_TASKS_PER_NODE",
                           "SLURM_STEP_NODELIST",
                           "SLURM_NODELIST",
                           "SLURM_JOB_NODELIST"})
    changes.emplace_back(name, std::nullopt);
  changes.insert(changes.end(), set.begin(), set.end());
  return changes;
}

Place place_with(const Changes& set) {
  const Environment environment(only(set));
  return place_from_environment();
}

/// rank/size, local rank/local size, node/nodes, source
std::string summary(const Place& place) {
  const auto pair = [](int a, int b) { return std::to_string(a) + "/" + std::to_string(b); };
  return pair(place.rank, place.size) + " " + pair(place.local_rank, place.local_size) + " " +
         pair(place.node_rank, place.nodes) + " " + place.source;
}

std::string summary_with(const Changes& set) { return summary(place_with(set)); }

Changes joined(Changes a, const Changes& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// The second rank on the second of two nodes with 2 and 3 tasks, as srun sets it.
const Changes kSlurm = {
    {"SLURM_STEP_ID", "4"}, {"SLURM_JOB_ID", "77"},          {"SLURM_PROCID", "3"},
    {"SLURM_NTASKS", "5"},  {"SLURM_LOCALID", "1"},          {"SLURM_NODEID", "1"},
    {"SLURM_NNODES", "2"},  {"SLURM_TASKS_PER_NODE", "2,3"}, {"SLURM_STEP_NODELIST", "n[07-08]"}};

const Changes kMpi = {{"OMPI_COMM_WORLD_RANK", "2"},
                      {"OMPI_COMM_WORLD_SIZE", "4"},
                      {"OMPI_COMM_WORLD_LOCAL_RANK", "0"},
                      {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
                      {"PMIX_RANK", "2"},
                      {"PMIX_NAMESPACE", "1615265793"}};

}  // namespace

TEST_CASE("place: nothing set is a process alone") {
  CHECK(summary_with({}) == "0/1 0/1 0/1 alone");
  CHECK(place_with({}).one_host());
  CHECK(place_with({}).job.empty());
}

TEST_CASE("place: the launcher's, torchrun's and hand-set variables") {
  const Changes by_launcher = {{"RANK", "5"},         {"WORLD_SIZE", "6"},
                               {"LOCAL_RANK", "1"},   {"LOCAL_WORLD_SIZE", "2"},
                               {"GROUP_RANK", "2"},   {"GROUP_WORLD_SIZE", "3"},
                               {"WEFT_JOB_ID", "ab"}, {"MASTER_ADDR", "h0"},
                               {"MASTER_PORT", "9"}};
  CHECK(summary_with(by_launcher) == "5/6 1/2 2/3 launcher");
  CHECK(place_with(by_launcher).job == "ab");
  CHECK(place_with(by_launcher).first_host == "h0");
  CHECK_FALSE(place_with(by_launcher).one_host());

  const Changes torch = {{"RANK", "1"},
                         {"WORLD_SIZE", "3"},
                         {"LOCAL_RANK", "0"},
                         {"LOCAL_WORLD_SIZE", "2"},
                         {"GROUP_RANK", "1"},
                         {"GROUP_WORLD_SIZE", "2"},
                         {"MASTER_ADDR", "h0"},
                         {"MASTER_PORT", "9"},
                         {"TORCHELASTIC_RUN_ID", "x"}};
  CHECK(summary_with(torch) == "1/3 0/2 1/2 torchrun");
  CHECK(place_with(torch).job == "torchrun-x-9");

  CHECK(summary_with({{"RANK", "1"}, {"WORLD_SIZE", "2"}}) == "1/2 1/2 0/1 environment");
  CHECK(summary_with({{"WORLD_SIZE", "1"}}) == "0/1 0/1 0/1 environment");
  CHECK(summary_with({{"RANK", "5"}, {"WORLD_SIZE", "6"}, {"LOCAL_WORLD_SIZE", "2"}}) ==
        "5/6 1/2 2/3 environment");
  CHECK(summary_with({{"RANK", "5"}, {"WORLD_SIZE", "6"}, {"GROUP_WORLD_SIZE", "2"}}) ==
        "5/6 2/3 1/2 environment");
  CHECK(place_with({{"RANK", "1"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "h"}, {"MASTER_PORT", "4"}})
            .job == "h-4");
}

TEST_CASE("place: Open MPI") {
  CHECK(summary_with(kMpi) == "2/4 0/2 -1/0 Open MPI");
  CHECK(place_with(kMpi).job == "mpi-1615265793");
  CHECK(summary_with(joined(
            kMpi, {{"OMPI_COMM_WORLD_LOCAL_RANK", "2"}, {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"}})) ==
        "2/4 2/4 0/1 Open MPI");
  // Variables set by hand that agree change nothing.
  CHECK(summary_with(joined(kMpi, {{"RANK", "2"}, {"WORLD_SIZE", "4"}})) ==
        "2/4 0/2 -1/0 Open MPI");
}

TEST_CASE("place: a SLURM step") {
  CHECK(summary_with(kSlurm) == "3/5 1/3 1/2 SLURM");
  CHECK(place_with(kSlurm).job == "slurm-77.4");
  CHECK(place_with(kSlurm).first_host == "n07");
  CHECK(place_with(joined(kSlurm, {{"MASTER_ADDR", "other"}})).first_host == "other");
  CHECK(summary_with(joined(kSlurm, {{"SLURM_PROCID", "1"},
                                     {"SLURM_NTASKS", "2"},
                                     {"SLURM_NODEID", "0"},
                                     {"SLURM_NNODES", "1"},
                                     {"SLURM_TASKS_PER_NODE", std::nullopt}})) ==
        "1/2 1/2 0/1 SLURM");
  // A step smaller than its allocation.
  CHECK(summary_with(joined(
            kSlurm, {{"SLURM_STEP_NUM_TASKS", "4"}, {"SLURM_STEP_TASKS_PER_NODE", "2(x2)"}})) ==
        "3/4 1/2 1/2 SLURM");
  // The batch script itself is no task of a step.
  CHECK(summary_with(joined(kSlurm, {{"SLURM_STEP_ID", std::nullopt}})) == "0/1 0/1 0/1 alone");
  CHECK(summary_with(joined(kSlurm, {{"RANK", "3"}, {"WORLD_SIZE", "5"}})) == "3/5 1/3 1/2 SLURM");
}

TEST_CASE("place: launchers inside launchers, the innermost holds") {
  // mpirun inside an allocation: srun started its daemons, one per host.
  CHECK(summary_with(joined(kSlurm, kMpi)) == "2/4 0/2 -1/0 Open MPI");
  const Changes own = {{"RANK", "7"},       {"WORLD_SIZE", "8"},       {"LOCAL_RANK", "3"},
                       {"GROUP_RANK", "1"}, {"LOCAL_WORLD_SIZE", "4"}, {"WEFT_JOB_ID", "ab"}};
  CHECK(summary_with(joined(kSlurm, own)) == "7/8 3/4 1/2 launcher");
  CHECK(summary_with(joined(joined(kSlurm, kMpi), own)) == "7/8 3/4 1/2 launcher");
}

TEST_CASE("place: what is incomplete, out of range or contradictory is named") {
  const auto fails = [](const std::string& name, const Changes& set) {
    const Environment environment(only(set));
    check_error<ArgumentError>(name, [] { place_from_environment(); });
  };
  fails("place_no_size", {{"RANK", "1"}});
  fails("place_no_rank", {{"WORLD_SIZE", "2"}});
  fails("place_rank_range", {{"RANK", "2"}, {"WORLD_SIZE", "2"}});
  fails("place_rank_word", {{"RANK", "first"}, {"WORLD_SIZE", "2"}});
  const Changes two = {{"RANK", "1"}, {"WORLD_SIZE", "2"}};
  fails("place_local_size", joined(two, {{"LOCAL_WORLD_SIZE", "3"}}));
  fails("place_local_rank", joined(two, {{"LOCAL_WORLD_SIZE", "1"}, {"LOCAL_RANK", "1"}}));
  fails("place_local_not_rank", joined(two, {{"LOCAL_WORLD_SIZE", "2"}, {"LOCAL_RANK", "0"}}));
  fails("place_local_alone", joined(two, {{"LOCAL_RANK", "0"}}));
  fails("place_nodes", joined(two, {{"GROUP_WORLD_SIZE", "3"}}));
  fails("place_nodes_one", joined(two, {{"GROUP_WORLD_SIZE", "1"}, {"LOCAL_WORLD_SIZE", "1"}}));
  fails("place_node_rank", joined(two, {{"GROUP_RANK", "2"}, {"LOCAL_WORLD_SIZE", "1"}}));
  fails("place_uneven", {{"RANK", "1"}, {"WORLD_SIZE", "3"}, {"LOCAL_WORLD_SIZE", "2"}});

  fails("place_hand_in_mpi", joined(kMpi, {{"RANK", "0"}, {"WORLD_SIZE", "4"}}));
  fails("place_size_in_mpi", joined(kMpi, {{"WORLD_SIZE", "8"}}));
  fails("place_mpi_pmix", joined(kMpi, {{"PMIX_RANK", "3"}}));
  fails("place_mpi_half", joined(kMpi, {{"OMPI_COMM_WORLD_SIZE", std::nullopt}}));
  fails("place_mpi_range", joined(kMpi, {{"OMPI_COMM_WORLD_SIZE", "2"}}));
  fails("place_pmix_alone", {{"PMIX_RANK", "3"}});

  fails("place_hand_in_slurm", joined(kSlurm, {{"RANK", "0"}, {"WORLD_SIZE", "5"}}));
  fails("place_size_in_slurm", joined(kSlurm, {{"WORLD_SIZE", "4"}}));
  fails("place_slurm_pmix", joined(kSlurm, {{"PMIX_RANK", "0"}}));
  fails("place_slurm_half", joined(kSlurm, {{"SLURM_LOCALID", std::nullopt}}));
  fails("place_slurm_range", joined(kSlurm, {{"SLURM_NTASKS", "3"}}));
  fails("place_slurm_local", joined(kSlurm, {{"SLURM_LOCALID", "3"}}));
  fails("place_slurm_tasks", joined(kSlurm, {{"SLURM_TASKS_PER_NODE", "2(x2)"}}));
  fails("place_slurm_no_tasks", joined(kSlurm, {{"SLURM_TASKS_PER_NODE", std::nullopt}}));
  fails("place_slurm_tasks_form", joined(kSlurm, {{"SLURM_TASKS_PER_NODE", "2(3)"}}));
  fails("place_slurm_nodelist", joined(kSlurm, {{"SLURM_STEP_NODELIST", "n[1-"}}));
}
