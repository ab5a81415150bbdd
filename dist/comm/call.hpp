// One call of a collective as the ranks compare it before any data moves.
#pragma once

#include <cstdint>
#include <string>

#include <weft/core/dtype.hpp>
#include <weft/core/shape.hpp>

namespace weft::inline v0::dist {

/// How all_reduce and reduce_scatter combine the ranks' elements. avg is for floating dtypes; band,
/// bor and bxor (bit by bit) for whole numbers and bool. NaN wins sum, avg, min, max and prod:
/// where any rank has it, all get it.
enum class ReduceOp : uint8_t { sum, avg, min, max, prod, band, bor, bxor };

/// When a rank came to the collectives of its group: a slow one shows by being last, and late.
struct RankStatistics {
  int rank = 0;
  uint64_t calls = 0;       ///< collectives that it took part in
  uint64_t last = 0;        ///< how many of them it was the last to come to
  double lateness_p50 = 0;  ///< seconds after the first rank came: the median over the calls,
  double lateness_p99 = 0;  ///< and the 99th percentile, each within 15%
};

namespace detail {

enum class CallKind : uint8_t {
  none,
  barrier,
  all_reduce,
  all_gather,
  reduce_scatter,
  broadcast,
  gather,
  scatter,
  all_to_all,
  allocate_shared,
  send,
  recv,
};

const char* name_of(ReduceOp op);
const char* name_of(CallKind kind);

struct Call {
  CallKind kind = CallKind::none;
  DType dtype = DType::u8;
  ReduceOp op = ReduceOp::sum;
  int root = -1;  ///< root of a rooted collective; the peer of send and recv
  Shape shape = {};
};

/// Hash of everything that must be equal on all ranks. send and recv of one message hash alike.
uint64_t fingerprint(uint64_t group, uint64_t sequence, const Call& call);

/// "all_reduce #12 (f32 [2, 3], sum)".
std::string describe(const Call& call, uint64_t sequence);

}  // namespace detail
}  // namespace weft::inline v0::dist
