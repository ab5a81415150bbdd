// Dropout: the mask is a function of the seed and of each element's place, so that backward draws
// it again instead of keeping it.
#include <weft/core/base/parallel.hpp>
#include <weft/core/cpu/pointwise.hpp>
#include <weft/core/cpu/walk.hpp>
#include <weft/core/kernel/philox.hpp>
#include <weft/core/pointwise_attrs.hpp>

namespace weft::inline v0::WEFT_LEVEL {

namespace {

/// Words number first … first + kBlockElements - 1 of the stream. All counters of a block go
/// through the rounds together, so that the loops vectorise.
void draw_words(const PhiloxState& state, int64_t first, uint32_t* words) {
  constexpr int kCounters = kBlockElements / 4;
  alignas(64) uint32_t lanes[4][kCounters] = {};
  const uint64_t position = state.offset + static_cast<uint64_t>(first / 4);
  for (int i = 0; i < kCounters; ++i) {
    const uint64_t at = position + static_cast<uint64_t>(i);
    lanes[0][i] = static_cast<uint32_t>(at);
    lanes[1][i] = static_cast<uint32_t>(at >> 32);
  }
  kernel::PhiloxKey key = kernel::philox_key(state.seed);
  for (int round = 0; round < kernel::kPhiloxRounds; ++round, key = key.next())
    for (int i = 0; i < kCounters; ++i)
      kernel::philox_round(lanes[0][i], lanes[1][i], lanes[2][i], lanes[3][i], key);
  for (int i = 0; i < kCounters; ++i)
    for (int k = 0; k < 4; ++k) words[4 * i + k] = lanes[k][i];
}

template <class C>
void drop(const DropoutAttrs& attrs, const Walk& walk, int64_t first, int64_t n) {
  alignas(64) C values[kBlockElements];
  alignas(64) uint32_t words[kBlockElements];
  // An element stays where its word, a number in [0, 2^32), is at least p 2^32.
  const double limit = attrs.p * 0x1p32;
  const C scale = attrs.p < 1 ? static_cast<C>(1 / (1 - attrs.p)) : C(0);
  const uint32_t threshold = limit < 0x1p32 - 1 ? static_cast<uint32_t>(limit) : 0xffffffffu;
  draw_words(attrs.state, first, words);
  int64_t at = 0;
  for_runs(walk, first, first + n, [&](std::byte* const* pointers, int64_t size) {
    load_run(values + at, pointers[0], walk.operands[0].dtype, walk.inner_stride(0), size);
    at += size;
  });
  for (int64_t i = 0; i < n; ++i) values[i] = words[i] >= threshold ? values[i] * scale : C(0);
  at = 0;
  for_runs(walk, first, first + n, [&](std::byte* const* pointers, int64_t size) {
    store_run(pointers[1], walk.operands[1].dtype, walk.inner_stride(1), values + at, size);
    at += size;
  });
}

}  // namespace

WEFT_KERNEL(dropout) {
  if (outputs[0]->numel == 0) return;
  const auto drops = attrs.as<DropoutAttrs>();
  const Walk walk(context, inputs, outputs[0]);
  const int64_t blocks = (walk.numel + kBlockElements - 1) / kBlockElements;
  parallel_for(blocks, kMedium / kBlockElements, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      const int64_t first = b * kBlockElements, left = walk.numel - first;
      const int64_t n = left < kBlockElements ? left : kBlockElements;
      if (inputs[0]->dtype == DType::f64)
        drop<double>(drops, walk, first, n);
      else
        drop<float>(drops, walk, first, n);
    }
  });
}

}  // namespace weft::inline v0::WEFT_LEVEL
