// Which rank of which job this process is, by its environment.
#pragma once

#include <optional>
#include <string>

#include <weft/core/base/api.hpp>

namespace weft::inline v0::dist {

/// A process's place in its job.
struct Place {
  int rank = 0;
  int size = 1;        ///< ranks in all
  int local_rank = 0;  ///< among the ranks of this node
  int local_size = 1;  ///< ranks of this node
  int node_rank = 0;   ///< -1: not known (Open MPI on several hosts does not tell)
  int nodes = 1;       ///< 0: not known, but more than one
  /// "launcher", "torchrun", "environment" (set by hand), "Open MPI", "SLURM" or "alone"
  std::string source = "alone";
  /// The name that all ranks of this job and of no other have; empty where there is none.
  std::string job = {};
  /// The host of rank 0, where it is known.
  std::string first_host = {};

  bool one_host() const noexcept { return local_size == size; }
};

/// The place of this process. The first of these that is there holds: RANK, WORLD_SIZE, LOCAL_RANK,
/// LOCAL_WORLD_SIZE, GROUP_RANK, GROUP_WORLD_SIZE, as the launcher, torchrun or the user sets them;
/// OMPI_COMM_WORLD_* and PMIX_RANK; the variables of a SLURM step; none, which is a process alone.
/// A launcher that itself runs under mpirun or srun knows better than they; variables set by hand
/// must agree with them. Throws ArgumentError, naming the variables and their values, where they
/// are incomplete, out of range, or contradict each other.
WEFT_API Place place_from_environment();

namespace detail {

/// What each source alone says; nothing where it is absent. Throws as place_from_environment.
WEFT_API std::optional<Place> mpi_place();
WEFT_API std::optional<Place> slurm_place();

}  // namespace detail

}  // namespace weft::inline v0::dist
