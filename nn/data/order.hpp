// The order of examples: pure functions, so that ranks and restarts agree without a word.
#pragma once

#include <cstdint>

#include <weft/core/base/api.hpp>

namespace weft::inline v0::data {

/// Place of `position` in a permutation of 0 … n-1 that depends on (seed, epoch) alone; no list is
/// kept. A Feistel network over the next power of four, walked until it falls inside (Black and
/// Rogaway, Ciphers with Arbitrary Finite Domains, 2002). Needs 0 <= position < n.
WEFT_API int64_t permuted_index(uint64_t seed, uint64_t epoch, int64_t n, int64_t position);

/// Random numbers of one example in one epoch, the same for any number of ranks and workers.
class WEFT_API ExampleRandom {
 public:
  ExampleRandom(uint64_t seed, uint64_t epoch, int64_t index);
  /// In [0, 1).
  double uniform();
  /// In [low, high).
  int64_t integer(int64_t low, int64_t high);

 private:
  uint64_t next();
  uint64_t key_, counter_ = 0;
};

}  // namespace weft::inline v0::data
