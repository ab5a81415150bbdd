// Copies: to other strides, to another dtype.
#include <utility>

#include <weft/core/base/parallel.hpp>
#include <weft/core/cpu/pointwise.hpp>
#include <weft/core/cpu/walk.hpp>

namespace weft::inline v0::WEFT_LEVEL {

namespace {

constexpr bool is_computed(DType dtype) {
  return dtype == DType::f32 || dtype == DType::f64 || dtype == DType::i64;
}

/// Converts through blocks of C, which holds every value of the source.
template <class C>
void convert_blocks(std::byte* to, DType to_dtype, int64_t to_stride, const std::byte* from,
                    DType from_dtype, int64_t from_stride, int64_t n) {
  alignas(64) C buffer[kBlockElements];
  for (int64_t done = 0; done < n; done += kBlockElements) {
    const int64_t size = kBlockElements < n - done ? kBlockElements : n - done;
    load_run(buffer, from + done * from_stride, from_dtype, from_stride, size);
    store_run(to + done * to_stride, to_dtype, to_stride, buffer, size);
  }
}

/// Converts a run, in one step where one side is packed elements of a type that is computed in.
void convert_run(std::byte* to, DType to_dtype, int64_t to_stride, const std::byte* from,
                 DType from_dtype, int64_t from_stride, int64_t n) {
  if (is_computed(to_dtype) && to_stride == size_of(to_dtype)) {
    if (to_dtype == DType::f32)
      load_run(reinterpret_cast<float*>(to), from, from_dtype, from_stride, n);
    else if (to_dtype == DType::f64)
      load_run(reinterpret_cast<double*>(to), from, from_dtype, from_stride, n);
    else
      load_run(reinterpret_cast<int64_t*>(to), from, from_dtype, from_stride, n);
  } else if (is_computed(from_dtype) && from_stride == size_of(from_dtype)) {
    if (from_dtype == DType::f32)
      store_run(to, to_dtype, to_stride, reinterpret_cast<const float*>(from), n);
    else if (from_dtype == DType::f64)
      store_run(to, to_dtype, to_stride, reinterpret_cast<const double*>(from), n);
    else
      store_run(to, to_dtype, to_stride, reinterpret_cast<const int64_t*>(from), n);
  } else if (from_dtype == DType::f64) {
    convert_blocks<double>(to, to_dtype, to_stride, from, from_dtype, from_stride, n);
  } else if (is_floating(from_dtype)) {
    convert_blocks<float>(to, to_dtype, to_stride, from, from_dtype, from_stride, n);
  } else {
    convert_blocks<int64_t>(to, to_dtype, to_stride, from, from_dtype, from_stride, n);
  }
}

/// Copies short rows, several at a time, through C.
template <class C>
void copy_short_rows(const Walk& walk, int64_t begin, int64_t end) {
  alignas(64) C buffer[kBlockElements];
  for (; begin < end; begin += kBlockElements) {
    const int64_t size = kBlockElements < end - begin ? kBlockElements : end - begin;
    load_elements(buffer, walk, 0, begin, size);
    store_elements(walk, 1, begin, buffer, size);
  }
}

void copy_rows(const Walk& walk, int64_t begin, int64_t end) {
  const DType from_dtype = walk.operands[0].dtype, to_dtype = walk.operands[1].dtype;
  if (has_short_rows(walk)) {
    if (from_dtype == DType::f64)
      copy_short_rows<double>(walk, begin, end);
    else if (is_floating(from_dtype))
      copy_short_rows<float>(walk, begin, end);
    else
      copy_short_rows<int64_t>(walk, begin, end);
    return;
  }
  for_runs(walk, begin, end, [&](std::byte* const* pointers, int64_t n) {
    if (from_dtype == to_dtype)
      copy_run(pointers[1], walk.inner_stride(1), pointers[0], walk.inner_stride(0),
               size_of(to_dtype), n);
    else
      convert_run(pointers[1], to_dtype, walk.inner_stride(1), pointers[0], from_dtype,
                  walk.inner_stride(0), n);
  });
}

// Note [Transposed copies]
// Where the input's packed dim is not the output's, one of the two would be walked with a stride of
// a row, a cache line for every element. Squares of 16 by 16 are therefore read row by row and
// written column by column, from the registers or the L1 cache in between, and squares of one
// stripe are taken in the order of the output's rows.

constexpr int64_t kSquare = 16;

template <class T>
void transpose_square(std::byte* to, int64_t to_step, const std::byte* from, int64_t from_step) {
  T square[kSquare][kSquare];
  for (int64_t i = 0; i < kSquare; ++i)
    __builtin_memcpy(square[i], from + i * from_step, sizeof(square[i]));
  for (int64_t j = 0; j < kSquare; ++j) {
    T row[kSquare];
    for (int64_t i = 0; i < kSquare; ++i) row[i] = square[i][j];
    __builtin_memcpy(to + j * to_step, row, sizeof(row));
  }
}

// Elements of four bytes, those of f32, stay in registers: in step S, rows i and i + S swap the
// quarters that lie across the diagonal of their 2 S by 2 S squares.
typedef uint32_t Row __attribute__((vector_size(64)));

template <int S, int... L>
[[gnu::always_inline]] inline void swap_across(Row& a, Row& b, std::integer_sequence<int, L...>) {
  const Row low = __builtin_shufflevector(a, b, ((L & S) != 0 ? 16 + L - S : L)...);
  const Row high = __builtin_shufflevector(a, b, ((L & S) != 0 ? 16 + L : L + S)...);
  a = low;
  b = high;
}

template <int S>
[[gnu::always_inline]] inline void swap_step(Row* rows) {
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i)
    if ((i & S) == 0) swap_across<S>(rows[i], rows[i + S], std::make_integer_sequence<int, 16>());
}

template <>
void transpose_square<uint32_t>(std::byte* to, int64_t to_step, const std::byte* from,
                                int64_t from_step) {
  Row rows[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) __builtin_memcpy(&rows[i], from + i * from_step, sizeof(Row));
  swap_step<8>(rows);
  swap_step<4>(rows);
  swap_step<2>(rows);
  swap_step<1>(rows);
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) __builtin_memcpy(to + i * to_step, &rows[i], sizeof(Row));
}

/// One matrix: `rows` along the dim that is packed in the input, `columns` along the one that is
/// packed in the output.
template <class T>
void transpose_matrix(std::byte* to, int64_t to_step, const std::byte* from, int64_t from_step,
                      int64_t rows, int64_t columns) {
  constexpr int64_t kItem = sizeof(T);
  for (int64_t r = 0; r < rows; r += kSquare)
    for (int64_t c = 0; c < columns; c += kSquare) {
      std::byte* target = to + r * to_step + c * kItem;
      const std::byte* source = from + c * from_step + r * kItem;
      if (r + kSquare <= rows && c + kSquare <= columns) {
        transpose_square<T>(target, to_step, source, from_step);
        continue;
      }
      for (int64_t i = 0; r + i < rows && i < kSquare; ++i)
        for (int64_t j = 0; c + j < columns && j < kSquare; ++j)
          *reinterpret_cast<T*>(target + i * to_step + j * kItem) =
              *reinterpret_cast<const T*>(source + j * from_step + i * kItem);
    }
}

/// The dim that is packed in the input, where that is another one than the output's; else -1.
int transposed_dim(const Walk& walk) {
  const int last = walk.rank - 1;
  const int64_t item = size_of(walk.operands[0].dtype);
  if (walk.operands[0].dtype != walk.operands[1].dtype || walk.inner_stride(1) != item ||
      walk.inner_stride(0) == item || walk.inner() < kSquare)
    return -1;
  for (int d = 0; d < last; ++d)
    if (walk.operands[0].strides[d] == item && walk.shape[d] >= kSquare) return d;
  return -1;
}

template <class T>
void copy_transposed(const Walk& walk, int dim) {
  const int last = walk.rank - 1;
  constexpr int64_t kStripe = 64;
  const int64_t stripes = (walk.shape[dim] + kStripe - 1) / kStripe;
  const int64_t matrices = walk.numel / (walk.shape[dim] * walk.inner());
  const int64_t each = kStripe * walk.inner();
  const int64_t grain = each < kLight / 4 ? kLight / 4 / each : 1;
  parallel_for(matrices * stripes, grain, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const std::byte* from = walk.operands[0].data;
      std::byte* to = walk.operands[1].data;
      int64_t rest = task / stripes;
      for (int d = last - 1; d >= 0; --d) {
        if (d == dim) continue;
        from += rest % walk.shape[d] * walk.operands[0].strides[d];
        to += rest % walk.shape[d] * walk.operands[1].strides[d];
        rest /= walk.shape[d];
      }
      const int64_t first = task % stripes * kStripe, left = walk.shape[dim] - first;
      const int64_t rows = left < kStripe ? left : kStripe;
      transpose_matrix<T>(to + first * walk.operands[1].strides[dim], walk.operands[1].strides[dim],
                          from + first * walk.operands[0].strides[dim], walk.inner_stride(0), rows,
                          walk.inner());
    }
  });
}

void copy_transposed(const Walk& walk, int dim) {
  switch (size_of(walk.operands[0].dtype)) {
    case 1: copy_transposed<uint8_t>(walk, dim); break;
    case 2: copy_transposed<uint16_t>(walk, dim); break;
    case 4: copy_transposed<uint32_t>(walk, dim); break;
    default: copy_transposed<uint64_t>(walk, dim); break;
  }
}

}  // namespace

WEFT_KERNEL(cast) {
  const TensorRef in = inputs[0], out = outputs[0];
  if (out->numel == 0) return;
  const DType from_dtype = in->dtype, to_dtype = out->dtype;
  if (in->contiguous && out->contiguous) {
    const std::byte* from = context.bytes(in);
    std::byte* to = context.bytes(out);
    const int64_t from_item = size_of(from_dtype), to_item = size_of(to_dtype);
    parallel_for(out->numel, kLight, [&](int64_t begin, int64_t end) {
      if (from_dtype == to_dtype)
        __builtin_memmove(to + begin * to_item, from + begin * from_item,
                          static_cast<size_t>((end - begin) * to_item));
      else
        convert_run(to + begin * to_item, to_dtype, to_item, from + begin * from_item, from_dtype,
                    from_item, end - begin);
    });
    return;
  }
  const Walk walk(context, inputs, out);
  if (const int dim = transposed_dim(walk); dim >= 0) {
    copy_transposed(walk, dim);
    return;
  }
  parallel_for(walk.numel, kLight / 4,
               [&](int64_t begin, int64_t end) { copy_rows(walk, begin, end); });
}

}  // namespace weft::inline v0::WEFT_LEVEL
