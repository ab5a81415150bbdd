// How many CPUs this process may use. Not for users.
#pragma once

#include <optional>
#include <string>

namespace weft::inline v0::detail {

/// CPUs in the scheduler's affinity mask, at most the quota of the control groups, at least 1.
int allowed_cpus();

/// Physical cores behind the affinity mask (threads of one core count once), at most the quota.
int allowed_cores();

/// The CPUs that the control groups grant, or nothing without a limit. `root` is "/" but in tests.
std::optional<double> cgroup_cpus(const std::string& root);

}  // namespace weft::inline v0::detail
