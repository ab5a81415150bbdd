// Fused attention. Note [Attention in tiles]
// The scores [l, s] of a head are never in memory as a whole: a block of rows goes over blocks of
// columns with a running maximum and sum (Milakov and Gimelshein, Online normalizer calculation for
// softmax, 2018; Dao et al., FlashAttention, 2022). Backward computes the probabilities again from
// the saved logarithm of each row's sum. The products of the tiles are the library's (gemm.hpp), in
// f32; 16-bit operands are widened tile by tile. A task owns what it writes, so that results do not
// depend on the number of threads.
#include <weft/core/attention_attrs.hpp>
#include <weft/core/base/parallel.hpp>
#include <weft/core/cpu/gemm.hpp>
#include <weft/core/cpu/packing.hpp>
#include <weft/core/cpu/vector.hpp>

namespace weft::inline v0::WEFT_LEVEL {

namespace {

constexpr int64_t kRows = 64, kColumns = 256;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/// Where item `index` of the leading dims (all but the last two) starts, in elements.
int64_t item_offset(TensorRef t, int64_t index) {
  int64_t offset = 0;
  for (int d = t->rank() - 3; d >= 0; --d) {
    offset += index % t->shape[d] * t->strides[d];
    index /= t->shape[d];
  }
  return offset;
}

/// Rows of one head as the products read them.
struct Matrix {
  const float* data;
  int64_t stride;
};

// Sizes that all tasks share.
struct Heads {
  int64_t heads, key_heads, rows, columns, depth, value_depth, items;
  float scale;
  bool is_causal;

  Heads(const Attrs& attrs, TensorRef q, TensorRef k, TensorRef v) {
    const auto a = attrs.as<AttentionAttrs>();
    const int r = q->rank();
    heads = q->shape[r - 3];
    key_heads = k->shape[r - 3];
    rows = q->shape[r - 2];
    columns = k->shape[r - 2];
    depth = q->shape[r - 1];
    value_depth = v->shape[r - 1];
    items = heads;
    for (int d = 0; d + 3 < r; ++d) items *= q->shape[d];
    scale = static_cast<float>(a.scale);
    is_causal = a.is_causal;
  }
  int64_t key_item(int64_t item) const {
    return item / heads * key_heads + item % heads / (heads / key_heads);
  }
  /// Columns that rows before `row_end` may see.
  int64_t visible(int64_t row_end) const { return is_causal ? least(columns, row_end) : columns; }
};

/// Rows `begin` … `end` of an item: in place where they are f32 with packed columns, else copied to
/// `copy`.
template <class T>
Matrix rows_of(const Context& context, TensorRef t, int64_t item, int64_t begin, int64_t end,
               float* copy, float scale = 1.0f) {
  const int r = t->rank();
  const int64_t width = t->shape[r - 1], row_stride = t->strides[r - 2];
  const int64_t step = t->strides[r - 1];
  const T* from = context.data<T>(t) + item_offset(t, item) + begin * row_stride;
  if constexpr (sizeof(T) == sizeof(float))
    if (scale == 1.0f && (step == 1 || width == 1) && row_stride >= width)
      return {from, row_stride};
  for (int64_t i = 0; i < end - begin; ++i) {
    const T* row = from + i * row_stride;
    float* out = copy + i * width;
    if (step == 1)
      map_row(row, out, width, [scale](auto x) { return x * scale; });
    else
      for (int64_t j = 0; j < width; ++j) out[j] = widen(row[j * step]) * scale;
  }
  return {copy, width};
}

/// The mask's part for one row of scores: the columns from `first` on.
template <class T>
void apply_mask(const Context& context, TensorRef mask, int64_t item, int64_t row, int64_t first,
                int64_t count, float* scores) {
  const int r = mask->rank();
  const int64_t step = mask->strides[r - 1];
  const int64_t offset = item_offset(mask, item) + row * mask->strides[r - 2] + first * step;
  if (mask->dtype == DType::boolean) {
    const uint8_t* m = context.data<uint8_t>(mask) + offset;
    for (int64_t j = 0; j < count; ++j) scores[j] = m[j * step] != 0 ? scores[j] : -kInfinity;
  } else {
    const T* m = context.data<T>(mask) + offset;
    for (int64_t j = 0; j < count; ++j) scores[j] += widen(m[j * step]);
  }
}

/// x[i] = e^(x[i] - most); returns their sum.
float exponentials(float* x, int64_t n, float most) {
  constexpr int kStep = kWidth<float>;
  FloatVector a{}, b{};
  int64_t i = 0;
  for (; i + 2 * kStep <= n; i += 2 * kStep) {
    const FloatVector e0 = exp_of(load(x + i) - most), e1 = exp_of(load(x + i + kStep) - most);
    store(x + i, e0);
    store(x + i + kStep, e1);
    a += e0;
    b += e1;
  }
  for (; i < n; i += kStep) {
    const int rest = n - i < kStep ? static_cast<int>(n - i) : kStep;
    const FloatVector e = keep_lanes(exp_of(load_some(x + i, rest) - most), rest, 0.0f);
    store_some(x + i, e, rest);
    b += e;
  }
  return fold_lanes<Plus, float>(a + b);
}

WEFT_ROW float exp_of_one(float x) {
  float lanes[kWidth<float>];
  store(lanes, exp_of(FloatVector{} + x));
  return lanes[0];
}

void scale_row(float* x, int64_t n, float factor) {
  map_row(x, x, n, [factor](auto v) { return v * factor; });
}

/// Scores of a block of rows (already scaled) and a block of columns.
void score_tile(const Heads& h, Matrix q, int64_t m, Matrix k, int64_t column, int64_t n,
                float* scores) {
  detail::gemm_tile_f32({.m = m,
                         .n = n,
                         .k = h.depth,
                         .a = q.data,
                         .lda = q.stride,
                         .b = k.data + column * k.stride,
                         .ldb = k.stride,
                         .b_transposed = true,
                         .c = scores,
                         .ldc = kColumns});
}

/// How many of the columns [column, column + n) row `row` may see.
int64_t seen(const Heads& h, int64_t row, int64_t column, int64_t n) {
  if (!h.is_causal) return n;
  const int64_t count = row + 1 - column;
  return count < 0 ? 0 : least(count, n);
}

// Memory of a task.
struct Scratch {
  float *scores, *probabilities, *q, *k, *v, *result, *gradient, *dk, *dv, *dq;
};

int64_t padded(int64_t floats) { return (floats + 15) / 16 * 16; }

template <class T>
Scratch take_scratch(const Heads& h, bool backward) {
  const int64_t tile = kRows * kColumns;
  const int64_t query = padded(kRows * h.depth), value = padded(kRows * h.value_depth);
  const int64_t keys = padded(h.columns * h.depth), values = padded(h.columns * h.value_depth);
  const int64_t total = 2 * tile + 2 * query + 2 * value + 2 * keys + 2 * values;
  auto* at =
      reinterpret_cast<float*>(detail::thread_scratch(static_cast<size_t>(total) * sizeof(float)));
  Scratch s{};
  const auto take = [&at](int64_t count) {
    float* start = at;
    at += count;
    return start;
  };
  s.scores = take(tile);
  s.q = take(query);
  s.result = take(value);
  s.k = take(keys);
  s.v = take(values);
  if (!backward) return s;
  s.probabilities = take(tile);
  s.dq = take(query);
  s.gradient = take(value);
  s.dk = take(keys);
  s.dv = take(values);
  return s;
}

template <class T>
void forward_block(const Context& context, const Heads& h, Inputs inputs, Outputs outputs,
                   int64_t item, int64_t row, Matrix k, Matrix v, const Scratch& s) {
  const int64_t m = least(kRows, h.rows - row), end = h.visible(row + m);
  const TensorRef mask = inputs[3];
  const Matrix q = rows_of<T>(context, inputs[0], item, row, row + m, s.q, h.scale);
  T* out = context.data<T>(outputs[0]) + (item * h.rows + row) * h.value_depth;
  float* sums_out = context.data<float>(outputs[1]) + item * h.rows + row;
  float* result = s.result;
  if constexpr (sizeof(T) == sizeof(float)) result = out;
  float most[kRows], sums[kRows];
  for (int64_t i = 0; i < m; ++i) {
    most[i] = -kInfinity;
    sums[i] = 0.0f;
  }
  if (end <= 0)
    for (int64_t i = 0; i < m * h.value_depth; ++i) result[i] = 0.0f;
  for (int64_t column = 0; column < end; column += kColumns) {
    const int64_t n = least(kColumns, end - column);
    score_tile(h, q, m, k, column, n, s.scores);
    for (int64_t i = 0; i < m; ++i) {
      float* scores = s.scores + i * kColumns;
      const int64_t count = seen(h, row + i, column, n);
      if (mask != nullptr) apply_mask<T>(context, mask, item, row + i, column, count, scores);
      const float largest = fold_row<Larger>(scores, count, most[i], [](auto x) { return x; });
      const float shift = largest == -kInfinity ? 0.0f : largest;
      const float factor = most[i] == -kInfinity ? 0.0f : exp_of_one(most[i] - shift);
      sums[i] = sums[i] * factor + exponentials(scores, count, shift);
      most[i] = largest;
      for (int64_t j = count; j < n; ++j) scores[j] = 0.0f;
      if (column > 0) scale_row(result + i * h.value_depth, h.value_depth, factor);
    }
    detail::gemm_tile_f32({.m = m,
                           .n = h.value_depth,
                           .k = n,
                           .a = s.scores,
                           .lda = kColumns,
                           .b = v.data + column * v.stride,
                           .ldb = v.stride,
                           .c = result,
                           .ldc = h.value_depth,
                           .accumulate = column > 0});
  }
  for (int64_t i = 0; i < m; ++i) {
    // A row that sees nothing gives zeros; infinity makes its probabilities zero in backward.
    const bool empty = sums[i] == 0.0f;
    const float factor = empty ? 0.0f : 1.0f / sums[i];
    map_row(result + i * h.value_depth, out + i * h.value_depth, h.value_depth,
            [factor](auto x) { return x * factor; });
    sums_out[i] = empty ? kInfinity : most[i] + log_of(sums[i]);
  }
}

template <class T>
void forward(Context& context, const Attrs& attrs, Inputs inputs, Outputs outputs) {
  const Heads h(attrs, inputs[0], inputs[1], inputs[2]);
  const int64_t blocks = (h.rows + kRows - 1) / kRows;
  parallel_for(h.items * blocks, 1, [&](int64_t begin, int64_t end) {
    const Scratch s = take_scratch<T>(h, false);
    int64_t ready = -1;
    Matrix k{}, v{};
    for (int64_t task = begin; task < end; ++task) {
      const int64_t item = task / blocks, key_item = h.key_item(item);
      if (key_item != ready) {
        k = rows_of<T>(context, inputs[1], key_item, 0, h.columns, s.k);
        v = rows_of<T>(context, inputs[2], key_item, 0, h.columns, s.v);
        ready = key_item;
      }
      forward_block<T>(context, h, inputs, outputs, item, task % blocks * kRows, k, v, s);
    }
  });
}

// Inputs of the backward op by name.
struct Backward {
  TensorRef gradient, q, k, v, mask, out, log_sums;
};

/// Scores become the gradient of the scores, and `p` the probabilities.
template <class T>
void score_gradients(const Context& context, const Heads& h, const Backward& in, int64_t item,
                     int64_t row, int64_t m, int64_t column, int64_t n, const float* dots,
                     const Scratch& s) {
  const float* log_sums = context.data<float>(in.log_sums) + item * h.rows + row;
  for (int64_t i = 0; i < m; ++i) {
    float* p = s.probabilities + i * kColumns;
    float* d = s.scores + i * kColumns;
    const int64_t count = seen(h, row + i, column, n);
    if (in.mask != nullptr) apply_mask<T>(context, in.mask, item, row + i, column, count, p);
    const float sum = log_sums[i], dot = dots[i];
    map_row(p, p, count, [sum](auto x) { return exp_of(x - sum); });
    map_row(p, d, d, count, [dot](auto x, auto g) { return x * (g - dot); });
    for (int64_t j = count; j < n; ++j) p[j] = d[j] = 0.0f;
  }
}

template <class T>
void backward_block(const Context& context, const Heads& h, const Backward& in, T* dq_out,
                    int64_t item, int64_t row, Matrix k, Matrix v, float* dk, float* dv,
                    const Scratch& s) {
  const int64_t m = least(kRows, h.rows - row), end = h.visible(row + m);
  const Matrix q = rows_of<T>(context, in.q, item, row, row + m, s.q, h.scale);
  const Matrix g = rows_of<T>(context, in.gradient, item, row, row + m, s.gradient);
  const Matrix out = rows_of<T>(context, in.out, item, row, row + m, s.result);
  float dots[kRows];
  for (int64_t i = 0; i < m; ++i) {
    const float *a = g.data + i * g.stride, *b = out.data + i * out.stride;
    FloatVector sum{};
    constexpr int kStep = kWidth<float>;
    for (int64_t j = 0; j < h.value_depth; j += kStep) {
      const int rest = static_cast<int>(least(kStep, h.value_depth - j));
      sum += rest == kStep ? load(a + j) * load(b + j)
                           : load_some(a + j, rest) * load_some(b + j, rest);
    }
    dots[i] = fold_lanes<Plus, float>(sum);
  }
  if (end <= 0)
    for (int64_t i = 0; i < m * h.depth; ++i) s.dq[i] = 0.0f;
  for (int64_t column = 0; column < end; column += kColumns) {
    const int64_t n = least(kColumns, end - column);
    score_tile(h, q, m, k, column, n, s.probabilities);
    detail::gemm_tile_f32({.m = m,
                           .n = n,
                           .k = h.value_depth,
                           .a = g.data,
                           .lda = g.stride,
                           .b = v.data + column * v.stride,
                           .ldb = v.stride,
                           .b_transposed = true,
                           .c = s.scores,
                           .ldc = kColumns});
    score_gradients<T>(context, h, in, item, row, m, column, n, dots, s);
    detail::gemm_tile_f32({.m = n,
                           .n = h.value_depth,
                           .k = m,
                           .a = s.probabilities,
                           .lda = kColumns,
                           .a_transposed = true,
                           .b = g.data,
                           .ldb = g.stride,
                           .c = dv + column * h.value_depth,
                           .ldc = h.value_depth,
                           .accumulate = true});
    detail::gemm_tile_f32({.m = n,
                           .n = h.depth,
                           .k = m,
                           .a = s.scores,
                           .lda = kColumns,
                           .a_transposed = true,
                           .b = q.data,
                           .ldb = q.stride,
                           .c = dk + column * h.depth,
                           .ldc = h.depth,
                           .accumulate = true});
    detail::gemm_tile_f32({.m = m,
                           .n = h.depth,
                           .k = n,
                           .a = s.scores,
                           .lda = kColumns,
                           .b = k.data + column * k.stride,
                           .ldb = k.stride,
                           .c = s.dq,
                           .ldc = h.depth,
                           .accumulate = column > 0});
  }
  const float scale = h.scale;
  for (int64_t i = 0; i < m; ++i)
    map_row(s.dq + i * h.depth, dq_out + ((item * h.rows) + row + i) * h.depth, h.depth,
            [scale](auto x) { return x * scale; });
}

/// Sums of a key head: in place for f32, else rounded at the end.
template <class T>
void finish_sums(const float* sums, T* out, int64_t count) {
  if constexpr (sizeof(T) != sizeof(float)) map_row(sums, out, count, [](auto x) { return x; });
}

template <class T>
void backward(Context& context, const Attrs& attrs, const Backward& in, Outputs outputs) {
  const Heads h(attrs, in.q, in.k, in.v);
  const int64_t group = h.heads / h.key_heads;
  T* dq = context.data<T>(outputs[0]);
  parallel_for(h.items / group, 1, [&](int64_t begin, int64_t end) {
    const Scratch s = take_scratch<T>(h, true);
    for (int64_t key_item = begin; key_item < end; ++key_item) {
      const Matrix k = rows_of<T>(context, in.k, key_item, 0, h.columns, s.k);
      const Matrix v = rows_of<T>(context, in.v, key_item, 0, h.columns, s.v);
      T* dk_out = context.data<T>(outputs[1]) + key_item * h.columns * h.depth;
      T* dv_out = context.data<T>(outputs[2]) + key_item * h.columns * h.value_depth;
      float *dk = s.dk, *dv = s.dv;
      if constexpr (sizeof(T) == sizeof(float)) {
        dk = dk_out;
        dv = dv_out;
      }
      for (int64_t i = 0; i < h.columns * h.depth; ++i) dk[i] = 0.0f;
      for (int64_t i = 0; i < h.columns * h.value_depth; ++i) dv[i] = 0.0f;
      const int64_t first = key_item / h.key_heads * h.heads + key_item % h.key_heads * group;
      for (int64_t item = first; item < first + group; ++item)
        for (int64_t row = 0; row < h.rows; row += kRows)
          backward_block<T>(context, h, in, dq, item, row, k, v, dk, dv, s);
      finish_sums(dk, dk_out, h.columns * h.depth);
      finish_sums(dv, dv_out, h.columns * h.value_depth);
    }
  });
}

}  // namespace

WEFT_KERNEL(attention) {
  if (outputs[0]->numel == 0 && outputs[1]->numel == 0) return;
  switch (inputs[0]->dtype) {
    case DType::f16: return forward<float16>(context, attrs, inputs, outputs);
    case DType::bf16: return forward<bfloat16>(context, attrs, inputs, outputs);
    default: return forward<float>(context, attrs, inputs, outputs);
  }
}

WEFT_KERNEL(attention_backward) {
  const Backward in{inputs[0], inputs[1], inputs[2], inputs[3], inputs[4], inputs[5], inputs[6]};
  switch (in.q->dtype) {
    case DType::f16: return backward<float16>(context, attrs, in, outputs);
    case DType::bf16: return backward<bfloat16>(context, attrs, in, outputs);
    default: return backward<float>(context, attrs, in, outputs);
  }
}

}  // namespace weft::inline v0::WEFT_LEVEL
