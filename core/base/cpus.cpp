#include <weft/core/base/cpus.hpp>

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <set>
#include <sstream>

namespace weft::inline v0::detail {

namespace {

cpu_set_t affinity() {
  cpu_set_t set;
  CPU_ZERO(&set);
  // Above 1024 CPUs the call fails with this set; one CPU is then better than a wrong number.
  if (sched_getaffinity(0, sizeof set, &set) != 0) CPU_SET(0, &set);
  return set;
}

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

/// Version 2: cpu.max holds "QUOTA PERIOD", or "max PERIOD".
std::optional<double> limit_v2(const std::string& folder) {
  std::istringstream line(first_line(folder + "/cpu.max"));
  double quota = 0, period = 0;
  if (line >> quota >> period && quota > 0 && period > 0) return quota / period;
  return std::nullopt;
}

/// Version 1: two files; a quota of -1 means none.
std::optional<double> limit_v1(const std::string& folder) {
  std::istringstream quota_line(first_line(folder + "/cpu.cfs_quota_us"));
  std::istringstream period_line(first_line(folder + "/cpu.cfs_period_us"));
  double quota = 0, period = 0;
  if (quota_line >> quota && period_line >> period && quota > 0 && period > 0)
    return quota / period;
  return std::nullopt;
}

int within_quota(int cpus) {
  if (const auto quota = cgroup_cpus("/"))
    cpus = std::min(cpus, static_cast<int>(std::ceil(*quota)));
  return std::max(cpus, 1);
}

}  // namespace

std::optional<double> cgroup_cpus(const std::string& root) {
  std::optional<double> least;
  std::ifstream groups(root + "proc/self/cgroup");
  // Lines are "ID:CONTROLLERS:PATH"; version 2 has no controllers. A limit above the group holds
  // too.
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const bool unified = controllers == ",,";
    if (!unified && controllers.find(",cpu,") == std::string::npos) continue;
    const std::string base = root + (unified ? "sys/fs/cgroup" : "sys/fs/cgroup/cpu");
    std::string path = line.substr(second + 1);
    for (;;) {
      const auto limit = unified ? limit_v2(base + path) : limit_v1(base + path);
      if (limit) least = std::min(least.value_or(*limit), *limit);
      const size_t slash = path.rfind('/');
      if (slash == std::string::npos || path == "/") break;
      path = slash == 0 ? "/" : path.substr(0, slash);
    }
  }
  return least;
}

int allowed_cpus() {
  const cpu_set_t set = affinity();
  return within_quota(CPU_COUNT(&set));
}

int allowed_cores() {
  const cpu_set_t set = affinity();
  std::set<std::string> cores;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &set)) continue;
    std::string threads = first_line("/sys/devices/system/cpu/cpu" + std::to_string(cpu) +
                                     "/topology/thread_siblings_list");
    cores.insert(threads.empty() ? std::to_string(cpu) : std::move(threads));
  }
  return within_quota(static_cast<int>(cores.size()));
}

}  // namespace weft::inline v0::detail
