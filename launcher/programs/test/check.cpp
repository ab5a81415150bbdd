#include <weft/launcher/programs/test/check.hpp>

namespace weft::inline v0::self_test {

std::vector<Check> all_checks() {
  std::vector<Check> checks;
  add_process_checks(checks);
  add_data_checks(checks);
  add_training_checks(checks);
  add_collective_checks(checks);
  add_bandwidth_checks(checks);
  return checks;
}

}  // namespace weft::inline v0::self_test
