// Random numbers: Philox 4x32-10 (Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3,
// 2011), counter-based, so that an element's number depends on (seed, offset, position) alone, not
// on threads, vector width or device.
#pragma once

#include <cstdint>

#include <weft/core/base/api.hpp>

namespace weft::inline v0 {

/// Place in the stream of random numbers; an op that draws takes one and keeps it in its
/// attributes.
struct PhiloxState {
  uint64_t seed = 0;
  uint64_t offset = 0;
};

/// Seeds this process's default generator.
WEFT_API void manual_seed(uint64_t seed);

/// Takes `draws` numbers from the default generator (rounded up to whole counters) and returns
/// where they start. Thread-safe.
WEFT_API PhiloxState reserve_random(uint64_t draws);

/// The default generator's state, to be put back later (checkpointing recomputes with it).
WEFT_API PhiloxState random_state();
WEFT_API void set_random_state(PhiloxState state);

}  // namespace weft::inline v0
