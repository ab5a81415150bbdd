#include <weft/dist/comm/cache_line.hpp>
#include <weft/dist/comm/reduce_sums.hpp>

#include <cstring>

#include <weft/core/cpu/level.hpp>

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
    std::memcpy(sums, sources[0] + at, kBlock);
    for (size_t source = 1; source < sources.size(); ++source) {
      V values[kVectors];
      std::memcpy(values, sources[source] + at, kBlock);
      for (size_t i = 0; i < kVectors; ++i) sums[i] += values[i];
    }
    if (scales)
      for (size_t i = 0; i < kVectors; ++i) sums[i] *= factor;
    for (std::byte* to : destinations) std::memcpy(to + at, sums, kBlock);
  }
  for (size_t at = whole; at < bytes; at += sizeof(T)) {
    T sum, value;
    std::memcpy(&sum, sources[0] + at, sizeof(T));
    for (size_t source = 1; source < sources.size(); ++source) {
      std::memcpy(&value, sources[source] + at, sizeof(T));
      sum += value;
    }
    sum *= factor;
    for (std::byte* to : destinations) std::memcpy(to + at, &sum, sizeof(T));
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
