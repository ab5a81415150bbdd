#include <weft/dist/comm/call.hpp>

#include <fmt/core.h>

namespace weft::inline v0::dist::detail {

namespace {

constexpr const char* kOpNames[] = {"sum", "avg", "min", "max", "prod", "band", "bor", "bxor"};
constexpr const char* kCallNames[] = {
    "none",   "barrier", "all_reduce", "all_gather",      "reduce_scatter", "broadcast",
    "gather", "scatter", "all_to_all", "allocate_shared", "send",           "recv"};

// The finaliser of splitmix64 (Steele, Lea, Flood, 2014) over a running state.
uint64_t mix(uint64_t state, uint64_t value) {
  uint64_t z = (state ^ value) + 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

bool reduces(CallKind kind) {
  return kind == CallKind::all_reduce || kind == CallKind::reduce_scatter;
}

}  // namespace

const char* name_of(ReduceOp op) { return kOpNames[static_cast<int>(op)]; }
const char* name_of(CallKind kind) { return kCallNames[static_cast<int>(kind)]; }

uint64_t fingerprint(uint64_t group, uint64_t sequence, const Call& call) {
  const bool message = call.kind == CallKind::send || call.kind == CallKind::recv;
  const auto kind = message ? CallKind::send : call.kind;
  // One multiplication each, which the CPU does side by side, and one mixing of all.
  constexpr uint64_t kOdd = 0xd1342543de82ef95u;
  uint64_t factor = kOdd;
  uint64_t sum =
      (static_cast<uint64_t>(kind) | static_cast<uint64_t>(call.dtype) << 8 |
       static_cast<uint64_t>(call.op) << 16 | static_cast<uint64_t>(call.shape.rank()) << 24 |
       static_cast<uint64_t>(message ? 0 : call.root + 1) << 32) *
      factor;
  for (const int64_t size : call.shape) sum += static_cast<uint64_t>(size) * (factor *= kOdd);
  return mix(group ^ sequence * 0x9e3779b97f4a7c15u, sum);
}

std::string describe(const Call& call, uint64_t sequence) {
  if (call.kind == CallKind::none) return "nothing so far";
  std::string text = fmt::format("{} #{}", name_of(call.kind), sequence);
  if (call.kind == CallKind::barrier) return text;
  if (call.kind == CallKind::allocate_shared)
    return text + fmt::format(" ({} bytes)", call.shape.numel());
  text += fmt::format(" ({} {}", weft::name_of(call.dtype), to_string(call.shape));
  if (reduces(call.kind)) text += fmt::format(", {}", name_of(call.op));
  if (call.kind == CallKind::broadcast || call.kind == CallKind::scatter ||
      call.kind == CallKind::recv)
    text += fmt::format(", from rank {}", call.root);
  if (call.kind == CallKind::gather || call.kind == CallKind::send)
    text += fmt::format(", to rank {}", call.root);
  return text + ")";
}

}  // namespace weft::inline v0::dist::detail
