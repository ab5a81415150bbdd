// The side of `launcher test` that runs in the ranks.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <weft/launcher/programs/test/plan.hpp>

namespace weft::inline v0::self_test {

struct RankPlan {
  std::vector<std::string> checks = {};
  bool quick = false;
  std::string file = {};  ///< a name for a file that checks may make
  std::optional<PlannedFault> fault = {};
};

/// Runs the checks and reports them; the process's exit code.
int run_rank(const RankPlan& plan);

/// One rank, drawn here, is killed in the middle of a collective; the others report what they see.
int run_drill();

}  // namespace weft::inline v0::self_test
