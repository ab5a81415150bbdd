// The side of `launcher test` that starts ranks through the launcher, watches the time, and prints
// the table.
#pragma once

#include <string>
#include <vector>

namespace weft::inline v0::self_test {

struct DriverOptions {
  std::string ranks = {};                  ///< the path of the program that runs in the ranks
  std::string launcher = {};               ///< the path of the launcher
  std::vector<std::string> launch = {};    ///< options for `launcher launch`
  std::vector<std::string> patterns = {};  ///< of the checks to run; none: all
  double limit = 10;                       ///< seconds for one check
  bool quick = false;
  std::string fault = {};  ///< CHECK=HOW, for the ranks
};

/// Runs the checks and prints the table. 0 where none failed, else 1; 128 + signal where a signal
/// ended the test; 2 where the launcher refuses the options. Throws Error where no check fits.
int drive(const DriverOptions& options);

}  // namespace weft::inline v0::self_test
