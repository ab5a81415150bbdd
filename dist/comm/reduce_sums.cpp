#include <weft/dist/comm/reduce_sums.hpp>

#include <bit>
#include <cstring>

#include <weft/core/cpu/level.hpp>
#include <weft/dist/comm/cache_line.hpp>
#include <weft/dist/comm/reduce.hpp>

namespace weft::inline v0::dist::detail {

namespace {

// Note [Lines between cores]
// What bounds a sum over shared memory is the cache lines that travel between cores. The loop keeps
// many of them under way: it asks for lines ahead of their use, further than the CPU looks by
// itself. Lines that are to be written as well (a peer's data, reduced where it lies) are asked for
// with the right to write, so that each crosses once instead of once to be read and once more to
// be owned. Stores that bypass the caches are slower at every size: the reader is near.
constexpr size_t kAhead = 16 * 64;

template <class T, size_t kWidth>
struct VectorOf {
  typedef T type __attribute__((vector_size(kWidth)));
};

/// What lies at `at` of up to four sources, added up: see Note [Order of a sum].
template <class V, size_t kCount>
inline __attribute__((always_inline)) void add_leaf(std::span<const std::byte* const> sources,
                                                    size_t at, V (&sums)[kCount]) {
  V values[kCount];
  const auto add = [&](V(&to)[kCount], size_t source) {
    V more[kCount];
    std::memcpy(more, sources[source] + at, sizeof more);
    for (size_t i = 0; i < kCount; ++i) to[i] += more[i];
  };
  std::memcpy(sums, sources[0] + at, sizeof sums);
  if (sources.size() > 1) add(sums, 1);
  if (sources.size() == 3) add(sums, 2);
  if (sources.size() < 4) return;
  std::memcpy(values, sources[2] + at, sizeof values);
  add(values, 3);
  for (size_t i = 0; i < kCount; ++i) sums[i] += values[i];
}

template <class V, size_t kCount>
inline __attribute__((always_inline)) void add_tree(std::span<const std::byte* const> sources,
                                                    size_t at, V (&sums)[kCount]) {
  if (sources.size() <= kLeaf) return add_leaf(sources, at, sums);
  V levels[kLevels][kCount];
  size_t depth = 0, leaves = 0;
  const auto merge = [&] {
    --depth;
    for (size_t i = 0; i < kCount; ++i) sums[i] = levels[depth][i] + sums[i];
  };
  for (; sources.size() > kLeaf; sources = sources.subspan(kLeaf)) {
    add_leaf(sources.first(kLeaf), at, sums);
    for (int merges = std::countr_zero(++leaves); merges > 0; --merges) merge();
    for (size_t i = 0; i < kCount; ++i) levels[depth][i] = sums[i];
    ++depth;
  }
  add_leaf(sources, at, sums);
  while (depth > 0) merge();
}

template <class T, size_t kWidth>
inline __attribute__((always_inline)) void add_loop(std::span<const std::byte* const> sources,
                                                    std::span<std::byte* const> destinations,
                                                    size_t count, T factor) {
  using V = typename VectorOf<T, kWidth>::type;
  constexpr size_t kVectors = 256 / kWidth, kBlock = 256;
  const size_t bytes = count * sizeof(T), whole = bytes / kBlock * kBlock;
  const bool scales = factor != T{1};
  // Nothing beyond the end: what lies there is another rank's part.
  const auto ask = [&](size_t at) {
    if (at >= bytes) return;
    for (const std::byte* to : destinations)
      for (size_t line = 0; line < kBlock; line += 64) fetch_to_write(to + at + line);
  };
  for (size_t at = 0; at < kAhead; at += kBlock) ask(at);
  for (size_t at = 0; at < whole; at += kBlock) {
    ask(at + kAhead);
    V sums[kVectors];
    add_tree(sources, at, sums);
    if (scales)
      for (size_t i = 0; i < kVectors; ++i) sums[i] *= factor;
    for (std::byte* to : destinations) std::memcpy(to + at, sums, kBlock);
  }
  for (size_t at = whole; at < bytes; at += sizeof(T)) {
    T sum[1];
    add_tree(sources, at, sum);
    sum[0] *= factor;
    for (std::byte* to : destinations) std::memcpy(to + at, sum, sizeof(T));
  }
}

#if defined(__x86_64__)
template <class T>
__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,prfchw"))) void add_avx512(
    std::span<const std::byte* const> sources, std::span<std::byte* const> destinations,
    size_t count, T factor) {
  add_loop<T, 64>(sources, destinations, count, factor);
}
template <class T>
__attribute__((target("avx2,prfchw"))) void add_avx2(std::span<const std::byte* const> sources,
                                                     std::span<std::byte* const> destinations,
                                                     size_t count, T factor) {
  add_loop<T, 32>(sources, destinations, count, factor);
}
#endif

}  // namespace

template <class T>
void add_into(std::span<const std::byte* const> sources, std::span<std::byte* const> destinations,
              size_t count, T factor) {
#if defined(__x86_64__)
  static const weft::detail::CpuLevel level = weft::detail::cpu_level();
  if (level == weft::detail::CpuLevel::avx512)
    return add_avx512(sources, destinations, count, factor);
  if (level == weft::detail::CpuLevel::avx2) return add_avx2(sources, destinations, count, factor);
#endif
  add_loop<T, 16>(sources, destinations, count, factor);
}

template void add_into<float>(std::span<const std::byte* const>, std::span<std::byte* const>,
                              size_t, float);
template void add_into<double>(std::span<const std::byte* const>, std::span<std::byte* const>,
                               size_t, double);

}  // namespace weft::inline v0::dist::detail
