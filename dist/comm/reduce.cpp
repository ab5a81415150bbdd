#include <weft/dist/comm/reduce.hpp>

#include <bit>
#include <cstring>
#include <functional>
#include <type_traits>

#include <weft/dist/comm/reduce_sums.hpp>

namespace weft::inline v0::dist::detail {

namespace {

constexpr size_t kBlock = 256;  // elements kept in the first-level cache between load and store

// Branch-free conversions that the compiler vectorises: each is a few integer operations.
inline float widen(float16 value) {
  const uint32_t sign = (value.bits & 0x8000u) << 16;
  const uint32_t magnitude = (value.bits & 0x7fffu) << 13;
  const float scaled = std::bit_cast<float>(magnitude) * 0x1p112f;
  const uint32_t special = (value.bits & 0x7c00u) == 0x7c00u ? 0x7f800000u : 0u;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(scaled) | special | sign);
}
inline float widen(bfloat16 value) {
  return std::bit_cast<float>(static_cast<uint32_t>(value.bits) << 16);
}

inline void narrow(float value, float16& out) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const uint32_t magnitude = bits & 0x7fffffffu;
  const uint32_t large = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
  const uint32_t small =
      std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
  const uint32_t normal = (magnitude + 0xc8000fffu + ((magnitude >> 13) & 1u)) >> 13;
  const uint32_t half =
      magnitude >= 0x47800000u ? large : (magnitude < 0x38800000u ? small : normal);
  out.bits = static_cast<uint16_t>(half | (bits & 0x80000000u) >> 16);
}
inline void narrow(float value, bfloat16& out) { out = bfloat16(value); }

template <class T>
constexpr bool kIs16Bit = std::is_same_v<T, float16> || std::is_same_v<T, bfloat16>;

// Whole numbers are added without sign, so that an overflow wraps instead of being undefined.
template <class T>
struct AccumulatorOf {
  using type = std::make_unsigned_t<T>;
};
template <>
struct AccumulatorOf<float> {
  using type = float;
};
template <>
struct AccumulatorOf<double> {
  using type = double;
};
template <>
struct AccumulatorOf<float16> {
  using type = float;
};
template <>
struct AccumulatorOf<bfloat16> {
  using type = float;
};

struct Sum {
  template <class T, class A>
  static A apply(A a, A b) {
    return static_cast<A>(a + b);
  }
};
struct Product {
  template <class T, class A>
  static A apply(A a, A b) {
    // Narrow unsigned types promote to int, whose product may overflow: go through unsigned.
    if constexpr (std::is_integral_v<A> && sizeof(A) < sizeof(unsigned))
      return static_cast<A>(static_cast<unsigned>(a) * static_cast<unsigned>(b));
    else
      return static_cast<A>(a * b);
  }
};
/// Bit by bit. Accumulators of whole numbers are unsigned.
template <class Bits>
struct Bitwise {
  template <class T, class A>
  static A apply(A a, A b) {
    return static_cast<A>(Bits()(a, b));
  }
};
template <class T, class A>
auto ordered(A a) {
  if constexpr (std::is_integral_v<A>)
    return static_cast<T>(a);
  else
    return a;
}
struct Least {
  template <class T, class A>
  static A apply(A a, A b) {
    return ordered<T>(a) < ordered<T>(b) || a != a ? a : b;
  }
};
struct Most {
  template <class T, class A>
  static A apply(A a, A b) {
    return ordered<T>(a) > ordered<T>(b) || a != a ? a : b;
  }
};

template <class T, class A>
void load(const std::byte* from, A* to, size_t count) {
  if constexpr (kIs16Bit<T>) {
    const auto* values = reinterpret_cast<const T*>(from);
    for (size_t i = 0; i < count; ++i) to[i] = widen(values[i]);
  } else {
    std::memcpy(to, from, count * sizeof(T));
  }
}

template <class T, class Op, class A>
void combine(A* acc, const std::byte* from, size_t count) {
  const auto* values = reinterpret_cast<const std::conditional_t<kIs16Bit<T>, T, A>*>(from);
  for (size_t i = 0; i < count; ++i) {
    if constexpr (kIs16Bit<T>)
      acc[i] = Op::template apply<T>(acc[i], widen(values[i]));
    else
      acc[i] = Op::template apply<T>(acc[i], values[i]);
  }
}

// The commonest case in one pass: both sources are read and the result is written once per
// destination, each cache line travelling once.
template <class T, class Op, class A>
void combine_two(A* acc, const std::byte* a, const std::byte* b, size_t count) {
  const auto* x = reinterpret_cast<const A*>(a);
  const auto* y = reinterpret_cast<const A*>(b);
  for (size_t i = 0; i < count; ++i) acc[i] = Op::template apply<T>(x[i], y[i]);
}

/// Up to four sources: see Note [Order of a sum].
template <class S, class Op, class A>
void combine_leaf(std::span<const std::byte* const> sources, size_t from, size_t count, A* acc) {
  const auto combine_pair = [&](const std::byte* a, const std::byte* b, A* to) {
    if constexpr (kIs16Bit<S>) {
      load<S>(a + from, to, count);
      combine<S, Op>(to, b + from, count);
    } else {
      combine_two<S, Op>(to, a + from, b + from, count);
    }
  };
  if (sources.size() == 1) return load<S>(sources[0] + from, acc, count);
  combine_pair(sources[0], sources[1], acc);
  if (sources.size() == 3) combine<S, Op>(acc, sources[2] + from, count);
  if (sources.size() < kLeaf) return;
  alignas(64) A others[kBlock];
  combine_pair(sources[2], sources[3], others);
  for (size_t i = 0; i < count; ++i) acc[i] = Op::template apply<S>(acc[i], others[i]);
}

template <class S, class Op, class A>
void combine_tree(std::span<const std::byte* const> sources, size_t from, size_t count, A* acc) {
  if (sources.size() <= kLeaf) return combine_leaf<S, Op>(sources, from, count, acc);
  alignas(64) A levels[kLevels][kBlock];
  size_t depth = 0, leaves = 0;
  const auto merge = [&] {
    --depth;
    for (size_t i = 0; i < count; ++i) acc[i] = Op::template apply<S>(levels[depth][i], acc[i]);
  };
  for (; sources.size() > kLeaf; sources = sources.subspan(kLeaf)) {
    combine_leaf<S, Op>(sources.first(kLeaf), from, count, acc);
    for (int merges = std::countr_zero(++leaves); merges > 0; --merges) merge();
    std::memcpy(levels[depth++], acc, count * sizeof(A));
  }
  combine_leaf<S, Op>(sources, from, count, acc);
  while (depth > 0) merge();
}

template <class A>
void divide(A* acc, size_t parts, size_t count) {
  const A divisor = static_cast<A>(parts);
  if (std::has_single_bit(parts)) {  // the reciprocal is exact
    const A factor = A{1} / divisor;
    for (size_t i = 0; i < count; ++i) acc[i] *= factor;
  } else {
    for (size_t i = 0; i < count; ++i) acc[i] /= divisor;
  }
}

template <class D, class A>
void store(const A* acc, std::span<std::byte* const> destinations, size_t offset, size_t count) {
  if constexpr (kIs16Bit<D>) {
    D values[kBlock];
    for (size_t i = 0; i < count; ++i) narrow(acc[i], values[i]);
    for (std::byte* to : destinations) std::memcpy(to + offset, values, count * sizeof(D));
  } else {
    for (std::byte* to : destinations) std::memcpy(to + offset, acc, count * sizeof(D));
  }
}

/// Sources of S to destinations of D; averages over `parts` unless that is 0.
template <class S, class D, class Op>
void reduce_all(std::span<const std::byte* const> sources, std::span<std::byte* const> destinations,
                size_t count, size_t parts) {
  using A = typename AccumulatorOf<S>::type;
  if constexpr (std::is_same_v<S, D> && std::is_floating_point_v<S> && std::is_same_v<Op, Sum>)
    if (parts == 0 || std::has_single_bit(parts))  // the reciprocal is exact
      return add_into<S>(sources, destinations, count,
                         parts == 0 ? S{1} : S{1} / static_cast<S>(parts));
  alignas(64) A acc[kBlock];
  for (size_t begin = 0; begin < count; begin += kBlock) {
    const size_t length = count - begin < kBlock ? count - begin : kBlock;
    const size_t from = begin * sizeof(S);
    combine_tree<S, Op>(sources, from, length, acc);
    if constexpr (std::is_floating_point_v<A>)
      if (parts != 0) divide(acc, parts, length);
    store<D>(acc, destinations, begin * sizeof(D), length);
  }
}

template <class S, class D = S>
void reduce_typed(ReduceOp op, std::span<const std::byte* const> sources,
                  std::span<std::byte* const> destinations, size_t count, size_t parts) {
  switch (op) {
    case ReduceOp::sum: return reduce_all<S, D, Sum>(sources, destinations, count, 0);
    case ReduceOp::avg: return reduce_all<S, D, Sum>(sources, destinations, count, parts);
    case ReduceOp::min: return reduce_all<S, D, Least>(sources, destinations, count, 0);
    case ReduceOp::max: return reduce_all<S, D, Most>(sources, destinations, count, 0);
    case ReduceOp::prod: return reduce_all<S, D, Product>(sources, destinations, count, 0);
    default: break;  // bit by bit
  }
  if constexpr (std::is_integral_v<S>) {
    if (op == ReduceOp::band)
      reduce_all<S, D, Bitwise<std::bit_and<>>>(sources, destinations, count, 0);
    else if (op == ReduceOp::bor)
      reduce_all<S, D, Bitwise<std::bit_or<>>>(sources, destinations, count, 0);
    else
      reduce_all<S, D, Bitwise<std::bit_xor<>>>(sources, destinations, count, 0);
  }
}

ReduceOp logical(ReduceOp op) {
  if (op == ReduceOp::sum) return ReduceOp::max;
  return op == ReduceOp::prod ? ReduceOp::min : op;
}

void reduce_any(DType dtype, ReduceOp op, std::span<const std::byte* const> sources,
                std::span<std::byte* const> destinations, size_t count, size_t parts) {
  switch (dtype) {
    case DType::boolean:
      return reduce_typed<uint8_t>(logical(op), sources, destinations, count, parts);
    case DType::u8: return reduce_typed<uint8_t>(op, sources, destinations, count, parts);
    case DType::i8: return reduce_typed<int8_t>(op, sources, destinations, count, parts);
    case DType::i16: return reduce_typed<int16_t>(op, sources, destinations, count, parts);
    case DType::i32: return reduce_typed<int32_t>(op, sources, destinations, count, parts);
    case DType::i64: return reduce_typed<int64_t>(op, sources, destinations, count, parts);
    case DType::f16: return reduce_typed<float16>(op, sources, destinations, count, parts);
    case DType::bf16: return reduce_typed<bfloat16>(op, sources, destinations, count, parts);
    case DType::f32: return reduce_typed<float>(op, sources, destinations, count, parts);
    case DType::f64: return reduce_typed<double>(op, sources, destinations, count, parts);
  }
}

}  // namespace

void reduce_into(DType dtype, ReduceOp op, std::span<const std::byte* const> sources,
                 std::span<std::byte* const> destinations, size_t count) {
  reduce_any(dtype, op, sources, destinations, count, sources.size());
}

DType partial_dtype(DType dtype) {
  return dtype == DType::f16 || dtype == DType::bf16 ? DType::f32 : dtype;
}

void reduce_to_partial(DType dtype, ReduceOp op, std::span<const std::byte* const> sources,
                       std::byte* partial, size_t count) {
  const ReduceOp part_op = op == ReduceOp::avg ? ReduceOp::sum : op;
  const std::span<std::byte* const> to{&partial, 1};
  if (dtype == DType::f16)
    reduce_typed<float16, float>(part_op, sources, to, count, 0);
  else if (dtype == DType::bf16)
    reduce_typed<bfloat16, float>(part_op, sources, to, count, 0);
  else
    reduce_any(dtype, part_op, sources, to, count, 0);
}

void reduce_partials(DType dtype, ReduceOp op, std::span<const std::byte* const> partials,
                     std::span<std::byte* const> destinations, size_t count, size_t parts) {
  if (dtype == DType::f16)
    reduce_typed<float, float16>(op, partials, destinations, count, parts);
  else if (dtype == DType::bf16)
    reduce_typed<float, bfloat16>(op, partials, destinations, count, parts);
  else
    reduce_any(dtype, op, partials, destinations, count, parts);
}

}  // namespace weft::inline v0::dist::detail
