#include <weft/launcher/cpus.hpp>

#include <algorithm>

#include <weft/core/base/env.hpp>
#include <weft/launcher/error.hpp>

namespace weft::inline v0::launcher {

int automatic_ranks() {
  try {
    const int64_t threads = env::get_int("WEFT_NUM_THREADS", 1, 1 << 20).value_or(1);
    return static_cast<int>(std::max<int64_t>(1, allowed_cores() / threads));
  } catch (const ArgumentError& error) {
    throw LaunchError(kExitUsage, error.what());
  }
}

}  // namespace weft::inline v0::launcher
