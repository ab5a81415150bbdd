#include <weft/nn/data/order.hpp>

#include <bit>

#include <weft/core/base/check.hpp>
#include <weft/core/kernel/philox.hpp>

namespace weft::inline v0::data {

namespace {

/// A well-mixed key out of several numbers.
uint64_t mix(uint64_t a, uint64_t b) {
  const kernel::PhiloxWords words = kernel::philox_at(a, b);
  return uint64_t{words.word[0]} << 32 | words.word[1];
}

uint64_t feistel(uint64_t value, int half_bits, uint64_t key) {
  const uint64_t mask = (uint64_t{1} << half_bits) - 1;
  uint64_t left = value >> half_bits, right = value & mask;
  for (uint64_t round = 0; round < 6; ++round) {
    const uint64_t next = left ^ (mix(key + round, right) & mask);
    left = right;
    right = next;
  }
  return left << half_bits | right;
}

}  // namespace

int64_t permuted_index(uint64_t seed, uint64_t epoch, int64_t n, int64_t position) {
  const int bits = std::bit_width(static_cast<uint64_t>(n > 1 ? n - 1 : 1));
  const int half_bits = (bits + 1) / 2;
  const uint64_t key = mix(seed, epoch);
  auto value = static_cast<uint64_t>(position);
  do {
    value = feistel(value, half_bits, key);
  } while (value >= static_cast<uint64_t>(n));
  return static_cast<int64_t>(value);
}

ExampleRandom::ExampleRandom(uint64_t seed, uint64_t epoch, int64_t index)
    : key_(mix(mix(seed ^ 0x9e3779b97f4a7c15u, epoch), static_cast<uint64_t>(index))) {}

uint64_t ExampleRandom::next() { return mix(key_, counter_++); }

double ExampleRandom::uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }

int64_t ExampleRandom::integer(int64_t low, int64_t high) {
  WEFT_CHECK(ArgumentError, low < high, "ExampleRandom: no whole number in [{}, {})", low, high);
  return low + static_cast<int64_t>(next() % static_cast<uint64_t>(high - low));
}

}  // namespace weft::inline v0::data
