// What `launcher test` checks: each check runs on every rank, makes the same collective calls
// there, and either returns a figure or throws.
#pragma once

#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include <weft/core/base/check.hpp>
#include <weft/dist/comm/group.hpp>

namespace weft::inline v0::self_test {

/// Thrown by a check that cannot run here; the text says why.
class Skip : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Thrown by a check whose promise does not hold.
class Broken : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

template <class... Args>
void require(bool condition, fmt::format_string<Args...> text, Args&&... args) {
  if (!condition) throw Broken(fmt::format(text, std::forward<Args>(args)...));
}

struct Context {
  dist::Group group;      ///< all ranks
  bool one_host = true;   ///< all ranks share this host
  bool quick = false;     ///< fewer sizes
  std::string file = {};  ///< a name for a file that the check may make, the same on all ranks

  int rank() const { return group.rank(); }
  int size() const { return group.size(); }
};

struct Check {
  std::string name;
  std::function<std::string(const Context&)> run;  ///< returns a figure; rank 0's is shown
};

/// All checks of check_names(). (The kill drill, which ends its job, is not one.)
std::vector<Check> all_checks();

void add_process_checks(std::vector<Check>& checks);
void add_data_checks(std::vector<Check>& checks);
void add_training_checks(std::vector<Check>& checks);
void add_collective_checks(std::vector<Check>& checks);
void add_bandwidth_checks(std::vector<Check>& checks);

}  // namespace weft::inline v0::self_test
