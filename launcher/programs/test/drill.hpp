// What the kill drill has to show: the launcher names the culprit, exits with its code, the
// survivors learned of it, and nothing is left.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <weft/launcher/programs/test/progress.hpp>

namespace weft::inline v0::self_test {

class Drill {
 public:
  /// A line of the job.
  void take(const std::string& line, bool error);

  /// `in_time`: the job ended by itself, with `exit_code`.
  Finished judge(bool in_time, int exit_code, double seconds) const;

 private:
  std::string problem(bool in_time, int exit_code) const;

  Progress progress_;
  int culprit_ = -1;
  int64_t killed_at_ = 0;
  std::map<int, int64_t> lost_at_;
  std::string first_failure_;
  std::vector<std::string> lines_;
};

}  // namespace weft::inline v0::self_test
