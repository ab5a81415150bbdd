// How many CPUs this process may use.
#pragma once

#include <optional>
#include <string>

namespace weft::inline v0::launcher {

/// CPUs in the scheduler's affinity mask, at most the quota of the control groups, at least 1.
int allowed_cpus();

/// Physical cores behind the affinity mask (threads of one core count once), at most the quota.
int allowed_cores();

/// What `-n auto` means without GPUs: the allowed cores by the threads per rank (WEFT_NUM_THREADS,
/// else 1), at least 1. Throws LaunchError where WEFT_NUM_THREADS is no number.
int automatic_ranks();

/// The CPUs that the control groups grant, or nothing without a limit. `root` is "/" but in tests.
std::optional<double> cgroup_cpus(const std::string& root);

}  // namespace weft::inline v0::launcher
