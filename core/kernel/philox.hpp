// Philox 4x32-10: Salmon, Moraes, Dror, Shaw, Parallel Random Numbers: As Easy as 1, 2, 3, 2011.
// A counter of 128 bits and a key of 64 bits give four 32-bit words.
#pragma once

#include <cstdint>

#include <weft/core/kernel/macros.hpp>

namespace weft::inline v0::kernel {

struct PhiloxWords {
  uint32_t word[4];
};

inline constexpr int kPhiloxRounds = 10;

/// The key of a round; each round has the next one.
struct PhiloxKey {
  uint32_t low, high;
  WEFT_HD PhiloxKey next() const { return {low + 0x9e3779b9u, high + 0xbb67ae85u}; }
};

WEFT_HD inline PhiloxKey philox_key(uint64_t seed) {
  return {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
}

WEFT_HD inline void philox_round(uint32_t& w0, uint32_t& w1, uint32_t& w2, uint32_t& w3,
                                 PhiloxKey key) {
  const uint64_t a = uint64_t{0xd2511f53u} * w0, b = uint64_t{0xcd9e8d57u} * w2;
  w0 = static_cast<uint32_t>(b >> 32) ^ w1 ^ key.low;
  w1 = static_cast<uint32_t>(b);
  w2 = static_cast<uint32_t>(a >> 32) ^ w3 ^ key.high;
  w3 = static_cast<uint32_t>(a);
}

WEFT_HD inline PhiloxWords philox(PhiloxWords counter, PhiloxKey key) {
  uint32_t* w = counter.word;
  for (int round = 0; round < kPhiloxRounds; ++round, key = key.next())
    philox_round(w[0], w[1], w[2], w[3], key);
  return counter;
}

/// The words of counter number `position` under `seed`.
WEFT_HD inline PhiloxWords philox_at(uint64_t seed, uint64_t position) {
  return philox({{static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32), 0u, 0u}},
                philox_key(seed));
}

}  // namespace weft::inline v0::kernel
