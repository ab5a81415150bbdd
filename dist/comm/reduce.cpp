#include <weft/dist/comm/reduce.hpp>

#include <bit>
#include <cstring>
#include <type_traits>

namespace weft::inline v0::dist::detail {

namespace {

constexpr size_t kBlock = 1024;  // elements kept in the first-level cache between load and store

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

template <class T, class A>
void store(const A* acc, std::span<std::byte* const> destinations, size_t offset, size_t count) {
  if constexpr (kIs16Bit<T>) {
    T values[kBlock];
    for (size_t i = 0; i < count; ++i) narrow(acc[i], values[i]);
    for (std::byte* to : destinations) std::memcpy(to + offset, values, count * sizeof(T));
  } else {
    for (std::byte* to : destinations) std::memcpy(to + offset, acc, count * sizeof(T));
  }
}

template <class T, class Op>
void reduce_all(std::span<const std::byte* const> sources, std::span<std::byte* const> destinations,
                size_t count, bool average) {
  using A = typename AccumulatorOf<T>::type;
  alignas(64) A acc[kBlock];
  for (size_t begin = 0; begin < count; begin += kBlock) {
    const size_t length = count - begin < kBlock ? count - begin : kBlock;
    const size_t offset = begin * sizeof(T);
    size_t next = 1;
    if (!kIs16Bit<T> && sources.size() > 1) {
      if constexpr (!kIs16Bit<T>)
        combine_two<T, Op, A>(acc, sources[0] + offset, sources[1] + offset, length);
      next = 2;
    } else {
      load<T>(sources[0] + offset, acc, length);
    }
    for (; next < sources.size(); ++next) combine<T, Op, A>(acc, sources[next] + offset, length);
    if constexpr (std::is_floating_point_v<A>)
      if (average) divide(acc, sources.size(), length);
    store<T>(acc, destinations, offset, length);
  }
}

template <class T>
void reduce_typed(ReduceOp op, std::span<const std::byte* const> sources,
                  std::span<std::byte* const> destinations, size_t count) {
  switch (op) {
    case ReduceOp::sum: return reduce_all<T, Sum>(sources, destinations, count, false);
    case ReduceOp::avg: return reduce_all<T, Sum>(sources, destinations, count, true);
    case ReduceOp::min: return reduce_all<T, Least>(sources, destinations, count, false);
    case ReduceOp::max: return reduce_all<T, Most>(sources, destinations, count, false);
    case ReduceOp::prod: return reduce_all<T, Product>(sources, destinations, count, false);
  }
}

ReduceOp logical(ReduceOp op) {
  if (op == ReduceOp::sum) return ReduceOp::max;
  return op == ReduceOp::prod ? ReduceOp::min : op;
}

}  // namespace

void reduce_into(DType dtype, ReduceOp op, std::span<const std::byte* const> sources,
                 std::span<std::byte* const> destinations, size_t count) {
  switch (dtype) {
    case DType::boolean: return reduce_typed<uint8_t>(logical(op), sources, destinations, count);
    case DType::u8: return reduce_typed<uint8_t>(op, sources, destinations, count);
    case DType::i8: return reduce_typed<int8_t>(op, sources, destinations, count);
    case DType::i16: return reduce_typed<int16_t>(op, sources, destinations, count);
    case DType::i32: return reduce_typed<int32_t>(op, sources, destinations, count);
    case DType::i64: return reduce_typed<int64_t>(op, sources, destinations, count);
    case DType::f16: return reduce_typed<float16>(op, sources, destinations, count);
    case DType::bf16: return reduce_typed<bfloat16>(op, sources, destinations, count);
    case DType::f32: return reduce_typed<float>(op, sources, destinations, count);
    case DType::f64: return reduce_typed<double>(op, sources, destinations, count);
  }
}

}  // namespace weft::inline v0::dist::detail
