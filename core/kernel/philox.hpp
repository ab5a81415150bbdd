// Philox 4x32-10: Salmon, Moraes, Dror, Shaw, Parallel Random Numbers: As Easy as 1, 2, 3, 2011.
// A counter of 128 bits and a key of 64 bits give four 32-bit words.
#pragma once

#include <cstdint>

#include <weft/core/kernel/macros.hpp>

namespace weft::inline v0::kernel {

struct PhiloxWords {
  uint32_t word[4];
};

WEFT_HD inline PhiloxWords philox(PhiloxWords counter, uint32_t key0, uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xd2511f53u} * counter.word[0];
    const uint64_t b = uint64_t{0xcd9e8d57u} * counter.word[2];
    counter = {{static_cast<uint32_t>(b >> 32) ^ counter.word[1] ^ key0, static_cast<uint32_t>(b),
                static_cast<uint32_t>(a >> 32) ^ counter.word[3] ^ key1, static_cast<uint32_t>(a)}};
    key0 += 0x9e3779b9u;
    key1 += 0xbb67ae85u;
  }
  return counter;
}

/// The words of counter number `position` under `seed`.
WEFT_HD inline PhiloxWords philox_at(uint64_t seed, uint64_t position) {
  return philox({{static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32), 0u, 0u}},
                static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
}

}  // namespace weft::inline v0::kernel
