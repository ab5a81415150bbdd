#include <weft/launcher/cpus.hpp>

#include <algorithm>

namespace weft::inline v0::launcher {

int automatic_ranks(int threads_per_rank) {
  return std::max(1, allowed_cores() / std::max(1, threads_per_rank));
}

}  // namespace weft::inline v0::launcher
