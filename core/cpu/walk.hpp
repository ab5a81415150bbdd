// Walking over tensors of one (broadcast) shape: runs along the innermost dim, and conversion of
// runs to and from the types that kernels compute in.
#pragma once

#include <weft/core/cpu/kernel.hpp>
#include <weft/core/kernel/convert.hpp>

namespace weft::inline v0::WEFT_LEVEL {

/// Elements of a block buffer: small enough for all operands of an op to stay in the L1 cache.
inline constexpr int64_t kBlockElements = 512;

/// Most operands of a walk, the output included.
inline constexpr int kMostOperands = 5;

/// One operand: its first element and the bytes from one element to the next along each dim.
struct Operand {
  std::byte* data = nullptr;
  DType dtype = DType::f32;
  int64_t strides[kMaxRank] = {};
};

/// Several operands broadcast to the shape of the last one (the output), with dims of size 1
/// dropped and dims that lie behind each other joined. The innermost dim is shape[rank - 1].
struct Walk {
  int rank = 1;
  int count = 0;
  int64_t numel = 1;
  int64_t shape[kMaxRank] = {1};
  Operand operands[kMostOperands];

  Walk(Context& context, Inputs inputs, TensorRef output);
  int64_t inner() const { return shape[rank - 1]; }
  int64_t inner_stride(int operand) const { return operands[operand].strides[rank - 1]; }
};

/// Calls f(pointers, n) for runs of n elements along the innermost dim that together cover the
/// elements [begin, end) of the shape in C order.
template <class F>
[[gnu::always_inline]] inline void for_runs(const Walk& walk, int64_t begin, int64_t end,
                                            const F& f) {
  const int last = walk.rank - 1;
  int64_t index[kMaxRank] = {};
  std::byte* pointers[kMostOperands];
  for (int64_t d = last, rest = begin; d >= 0; --d) {
    index[d] = rest % walk.shape[d];
    rest /= walk.shape[d];
  }
  for (int k = 0; k < walk.count; ++k) {
    pointers[k] = walk.operands[k].data;
    for (int d = 0; d <= last; ++d) pointers[k] += index[d] * walk.operands[k].strides[d];
  }
  while (begin < end) {
    const int64_t left = walk.shape[last] - index[last];
    const int64_t n = left < end - begin ? left : end - begin;
    f(pointers, n);
    begin += n;
    if (begin >= end) return;
    // The run ended with its row: back to the row's start, one step along the next dim outwards.
    int d = last;
    int64_t moved = index[d];
    while (true) {
      for (int k = 0; k < walk.count; ++k) pointers[k] -= moved * walk.operands[k].strides[d];
      index[d] = 0;
      --d;
      ++index[d];
      for (int k = 0; k < walk.count; ++k) pointers[k] += walk.operands[k].strides[d];
      if (index[d] < walk.shape[d]) break;
      moved = index[d];
    }
  }
}

/// Calls f(T{}) with the element type of `dtype`.
template <class F>
[[gnu::always_inline]] inline void with_type(DType dtype, const F& f) {
  switch (dtype) {
    case DType::boolean: f(bool{}); break;
    case DType::u8: f(uint8_t{}); break;
    case DType::i8: f(int8_t{}); break;
    case DType::i16: f(int16_t{}); break;
    case DType::i32: f(int32_t{}); break;
    case DType::i64: f(int64_t{}); break;
    case DType::f16: f(float16{}); break;
    case DType::bf16: f(bfloat16{}); break;
    case DType::f32: f(float{}); break;
    case DType::f64: f(double{}); break;
  }
}

/// Reads n elements of `dtype`, `stride` bytes apart, into packed ones of type C (float, double,
/// int64_t).
template <class C>
void load_run(C* to, const std::byte* from, DType dtype, int64_t stride, int64_t n);

/// Writes n packed elements of type C (float, double, int64_t, bool) as `dtype`, `stride` bytes
/// apart.
template <class C>
void store_run(std::byte* to, DType dtype, int64_t stride, const C* from, int64_t n);

/// Whether rows are so short that going through them one by one would cost more than the work on
/// them; load_elements and store_elements then join several in a block.
inline bool has_short_rows(const Walk& walk) { return walk.rank > 1 && walk.inner() < 64; }

/// Whether the elements of operand k lie behind each other in the order of the walk.
bool is_dense(const Walk& walk, int operand);

/// Reads elements begin … begin + n - 1 of an operand, across rows, into packed ones of type C.
template <class C>
void load_elements(C* to, const Walk& walk, int operand, int64_t begin, int64_t n);

/// Writes them.
template <class C>
void store_elements(const Walk& walk, int operand, int64_t begin, const C* from, int64_t n);

/// Copies n elements of `size` bytes between strided runs.
void copy_run(std::byte* to, int64_t to_stride, const std::byte* from, int64_t from_stride,
              int64_t size, int64_t n);

}  // namespace weft::inline v0::WEFT_LEVEL
