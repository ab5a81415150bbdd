// Which CPUs each rank of this host is bound to.
#pragma once

#include <string>
#include <vector>

#include <weft/launcher/options.hpp>

namespace weft::inline v0::launcher {

/// A logical CPU and where it is.
struct Cpu {
  int number = 0, core = 0, package = 0, node = 0;
};

/// The CPUs that this process may use, as the system describes them; `root` is put before /sys, for
/// tests, which then give the allowed CPUs too. A CPU without a description is a core of its own on
/// node 0.
std::vector<Cpu> topology(const std::string& root = "", std::vector<int> allowed = {});

struct Placement {
  std::vector<int> cpus;  ///< empty: not bound
  int threads = 1;        ///< WEFT_NUM_THREADS where nobody sets it
  std::string text;       ///< "CPUs 0-3 (node 0), 4 threads"
  bool shared = false;    ///< bound to a core that another rank is bound to as well
};

/// Where rank `local_rank` of `ranks` goes. core: physical cores are dealt out in order, node by
/// node, as evenly as they divide, with all their CPUs; more ranks than cores share cores. numa:
/// ranks are spread over the nodes in order, and each has the CPUs of its node. none: every rank
/// has all CPUs, and its share of them as threads.
Placement place(Bind bind, const std::vector<Cpu>& cpus, int local_rank, int ranks,
                int unbound_threads);

/// "0-3,8" of {0, 1, 2, 3, 8}.
std::string cpu_list(std::vector<int> cpus);

}  // namespace weft::inline v0::launcher
