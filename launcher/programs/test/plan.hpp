// What both sides of `launcher test` know: the checks' names, and faults put in on purpose.
#pragma once

#include <optional>
#include <span>
#include <string>

namespace weft::inline v0::self_test {

struct CheckName {
  const char* name;
  const char* meaning;
};

/// All checks that run in one job, in their order.
std::span<const CheckName> check_names();

inline constexpr CheckName kKillDrill = {
    "kill_drill", "a rank is killed: it is named, the others learn of it, nothing is left"};

/// The exit code of a rank whose group has ended; the checks that remain need new ranks.
inline constexpr int kGroupEnded = 3;

/// A fault to put into a check on its last rank, so that the test is seen to fail.
enum class Fault { wrong, crash, hang, leave };

struct PlannedFault {
  std::string check;
  Fault fault = Fault::wrong;
};

/// "all_reduce=hang"; nothing where it reads otherwise.
std::optional<PlannedFault> parse_fault(const std::string& text);

}  // namespace weft::inline v0::self_test
