// Rows and elements by index.
#include <weft/core/cpu/strided.hpp>
#include <weft/core/ops_internal.hpp>
#include <weft/core/row_attrs.hpp>

namespace weft::inline v0::WEFT_LEVEL {

namespace {

template <class T>
WEFT_ROW void copy_row(T* out, const T* from, int64_t n) {
  if (n == 1)
    *out = *from;
  else
    __builtin_memcpy(static_cast<void*>(out), static_cast<const void*>(from),
                     static_cast<size_t>(n) * sizeof(T));
}

void check_indices(const char* op, const int64_t* index, int64_t n, int dim, int64_t size) {
  for (int64_t i = 0; i < n; ++i)
    if (index[i] < 0 || index[i] >= size) detail::fail_index(op, index[i], dim, size);
}

template <class T>
WEFT_ROW void add_to(T* out, T value) {
  if constexpr (kIsFloating<T>)
    narrow(out, widen(*out) + widen(value));
  else
    *out = static_cast<T>(*out + value);
}

template <class T>
WEFT_ROW void add_row(T* out, const T* from, int64_t n) {
  if constexpr (kIsFloating<T>)
    map_row(out, from, out, n, [](auto a, auto b) { return a + b; });
  else
    for (int64_t i = 0; i < n; ++i) out[i] = static_cast<T>(out[i] + from[i]);
}

template <class T>
void copy_all(const T* from, T* out, int64_t n) {
  parallel_for(n, 1 << 16, [=](int64_t begin, int64_t end) {
    __builtin_memcpy(static_cast<void*>(out + begin), static_cast<const void*>(from + begin),
                     static_cast<size_t>(end - begin) * sizeof(T));
  });
}

/// out[o, k, …] = x[o, index[k], …]
template <class T>
void select_rows(const T* x, const int64_t* index, int64_t count, const DimView& view, T* out) {
  parallel_for(view.outer * count, rows_per_task(view.inner + 8), [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t o = r / count, k = r % count;
      copy_row(out + r * view.inner, x + (o * view.size + index[k]) * view.inner, view.inner);
    }
  });
}

/// The positions that gather and scatter touch: for each element of `index`, where it lies in a
/// packed tensor of shape `shape` with coordinate 0 along `dim`.
DimWalk lines_of(const Shape& index, const Shape& shape, int dim, bool with_dim) {
  DimWalk walk;
  for (int i = 0; i < static_cast<int>(index.rank()); ++i) {
    if (i == dim && !with_dim) continue;
    int64_t stride = 1;
    for (int k = i + 1; k < static_cast<int>(shape.rank()); ++k) stride *= shape[k];
    walk.add(index[i], i == dim ? 0 : stride);
  }
  return walk;
}

int64_t stride_of(const Shape& shape, int dim) {
  int64_t stride = 1;
  for (int k = dim + 1; k < static_cast<int>(shape.rank()); ++k) stride *= shape[k];
  return stride;
}

/// Calls put(out position, source position) for every element of index. Elements that may meet at
/// one place (they differ along `dim` alone) stay on one thread and in order.
template <class Put>
WEFT_ROW void scatter_lines(const char* op, const int64_t* index, const Shape& index_shape,
                            const Shape& out_shape, const Shape& source_shape, int dim,
                            const Put& put) {
  const DimWalk out_lines = lines_of(index_shape, out_shape, dim, false);
  const DimWalk source_lines = lines_of(index_shape, source_shape, dim, false);
  const DimWalk index_lines = lines_of(index_shape, index_shape, dim, false);
  const int rank = static_cast<int>(index_shape.rank());
  const int64_t n = rank == 0 ? 1 : index_shape[dim], size = rank == 0 ? 1 : out_shape[dim];
  const int64_t out_stride = stride_of(out_shape, dim), index_stride = stride_of(index_shape, dim),
                source_stride = stride_of(source_shape, dim);
  parallel_for(out_lines.count, rows_per_task(4 * n), [&](int64_t begin, int64_t end) {
    for (int64_t line = begin; line < end; ++line) {
      const int64_t to = out_lines.offset(line), from = source_lines.offset(line);
      const int64_t* at = index + index_lines.offset(line);
      for (int64_t k = 0; k < n; ++k) {
        const int64_t i = at[k * index_stride];
        if (i < 0 || i >= size) detail::fail_index(op, i, dim, size);
        put(to + i * out_stride, from + k * source_stride);
      }
    }
  });
}

/// Positions of each index in order of the index: positions of row v are order[first[v]] …
/// order[first[v + 1] - 1], ascending.
struct Buckets {
  int64_t* first;
  int64_t* order;
};
Buckets sort_by_index(Context& context, const int64_t* index, int64_t n, int64_t rows) {
  Buckets buckets;
  buckets.first = reinterpret_cast<int64_t*>(
      context.workspace(static_cast<size_t>(rows + 2) * sizeof(int64_t)));
  buckets.order =
      reinterpret_cast<int64_t*>(context.workspace(static_cast<size_t>(n + 1) * sizeof(int64_t)));
  // Counts stand two places on at first, so that filling leaves every start where it belongs.
  int64_t* count = buckets.first;
  for (int64_t v = 0; v < rows + 2; ++v) count[v] = 0;
  for (int64_t i = 0; i < n; ++i) ++count[index[i] + 2];
  for (int64_t v = 2; v < rows + 2; ++v) count[v] += count[v - 1];
  for (int64_t i = 0; i < n; ++i) buckets.order[count[index[i] + 1]++] = i;
  return buckets;
}

/// The sum of some rows of grad, in order, in the compute type.
template <class T>
WEFT_ROW void sum_rows(const T* grad, const int64_t* rows, int64_t count, int64_t width, T* out) {
  if (count == 1) return copy_row(out, grad + rows[0] * width, width);
  using S = Compute<T>;
  constexpr int kStep = kWidth<S>;
  for (int64_t j = 0; j < width; j += kStep) {
    const int lanes = width - j < kStep ? static_cast<int>(width - j) : kStep;
    Vector<S> sum{};
    if (lanes == kStep) {
      for (int64_t k = 0; k < count; ++k) sum += load(grad + rows[k] * width + j);
      store(out + j, sum);
    } else {
      for (int64_t k = 0; k < count; ++k) sum += load_some(grad + rows[k] * width + j, lanes);
      store_some(out + j, sum, lanes);
    }
  }
}

}  // namespace

WEFT_KERNEL(index_select) {
  const int dim = attrs.as<DimAttrs>().dim;
  const DimView view(inputs[0]->shape, dim);
  const int64_t* index = packed<int64_t>(context, inputs[1]);
  check_indices("index_select", index, inputs[1]->numel, dim, view.size);
  if (outputs[0]->numel == 0) return;
  for_size(outputs[0]->dtype, [&](auto zero) {
    using T = decltype(zero);
    select_rows(packed<T>(context, inputs[0]), index, inputs[1]->numel, view,
                context.data<T>(outputs[0]));
  });
}

// Inputs: weight [rows, d], indices.
WEFT_KERNEL(embedding) {
  const DimView view(inputs[0]->shape, 0);
  const int64_t* index = packed<int64_t>(context, inputs[1]);
  check_indices("embedding", index, inputs[1]->numel, 0, view.size);
  if (outputs[0]->numel == 0) return;
  for_size(outputs[0]->dtype, [&](auto zero) {
    using T = decltype(zero);
    select_rows(packed<T>(context, inputs[0]), index, inputs[1]->numel, view,
                context.data<T>(outputs[0]));
  });
}

// Inputs: gradient [indices…, d], indices. Each row of the result is written once, whether it is
// zeros or a sum; the positions of a row are added in their order, whatever the number of threads.
WEFT_KERNEL(embedding_backward) {
  const auto table = attrs.as<EmbeddingAttrs>();
  const int64_t* index = packed<int64_t>(context, inputs[1]);
  const int64_t width = outputs[0]->shape[1];
  check_indices("embedding", index, inputs[1]->numel, 0, table.rows);
  const Buckets buckets = sort_by_index(context, index, inputs[1]->numel, table.rows);
  for_floating(outputs[0]->dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* grad = packed<T>(context, inputs[0]);
    T* out = context.data<T>(outputs[0]);
    parallel_for(table.rows, rows_per_task(width), [=](int64_t begin, int64_t end) {
      for (int64_t v = begin; v < end; ++v) {
        const int64_t first = buckets.first[v], count = buckets.first[v + 1] - first;
        if (count == 0 || v == table.padding_idx)
          __builtin_memset(static_cast<void*>(out + v * width), 0,
                           static_cast<size_t>(width) * sizeof(T));
        else
          sum_rows(grad, buckets.order + first, count, width, out + v * width);
      }
    });
  });
}

WEFT_KERNEL(gather) {
  const int dim = attrs.as<DimAttrs>().dim;
  const int64_t* index = packed<int64_t>(context, inputs[1]);
  if (outputs[0]->numel == 0) return;
  for_size(outputs[0]->dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* x = packed<T>(context, inputs[0]);
    T* out = context.data<T>(outputs[0]);
    scatter_lines("gather", index, inputs[1]->shape, inputs[0]->shape, inputs[1]->shape, dim,
                  [=](int64_t from, int64_t to) { out[to] = x[from]; });
  });
}

// Inputs: x, index, source.
WEFT_KERNEL(scatter) {
  const int dim = attrs.as<DimAttrs>().dim;
  const int64_t* index = packed<int64_t>(context, inputs[1]);
  for_size(outputs[0]->dtype, [&](auto zero) {
    using T = decltype(zero);
    const T *x = packed<T>(context, inputs[0]), *source = packed<T>(context, inputs[2]);
    T* out = context.data<T>(outputs[0]);
    copy_all(x, out, outputs[0]->numel);
    if (inputs[1]->numel == 0) return;
    scatter_lines("scatter", index, inputs[1]->shape, outputs[0]->shape, inputs[2]->shape, dim,
                  [=](int64_t to, int64_t from) { out[to] = source[from]; });
  });
}

WEFT_KERNEL(scatter_add) {
  const int dim = attrs.as<DimAttrs>().dim;
  const int64_t* index = packed<int64_t>(context, inputs[1]);
  for_any(outputs[0]->dtype, [&](auto zero) {
    using T = decltype(zero);
    const T *x = packed<T>(context, inputs[0]), *source = packed<T>(context, inputs[2]);
    T* out = context.data<T>(outputs[0]);
    copy_all(x, out, outputs[0]->numel);
    if (inputs[1]->numel == 0) return;
    scatter_lines("scatter_add", index, inputs[1]->shape, outputs[0]->shape, inputs[2]->shape, dim,
                  [=](int64_t to, int64_t from) { add_to(out + to, source[from]); });
  });
}

// Inputs: x, index [k], source: x's shape with k along the dim.
WEFT_KERNEL(index_add) {
  const int dim = attrs.as<DimAttrs>().dim;
  const DimView view(outputs[0]->shape, dim);
  const int64_t* index = packed<int64_t>(context, inputs[1]);
  const int64_t count = inputs[1]->numel;
  check_indices("index_add", index, count, dim, view.size);
  for_any(outputs[0]->dtype, [&](auto zero) {
    using T = decltype(zero);
    const T *x = packed<T>(context, inputs[0]), *source = packed<T>(context, inputs[2]);
    T* out = context.data<T>(outputs[0]);
    copy_all(x, out, outputs[0]->numel);
    // Rows that meet are added in order; threads take other outer positions or other columns.
    constexpr int64_t kColumns = 256;
    const int64_t tiles = (view.inner + kColumns - 1) / kColumns;
    parallel_for(view.outer * tiles, rows_per_task(count * kColumns),
                 [=](int64_t begin, int64_t end) {
                   for (int64_t task = begin; task < end; ++task) {
                     const int64_t o = task / tiles, j = task % tiles * kColumns;
                     const int64_t n = view.inner - j < kColumns ? view.inner - j : kColumns;
                     for (int64_t k = 0; k < count; ++k)
                       add_row(out + (o * view.size + index[k]) * view.inner + j,
                               source + (o * count + k) * view.inner + j, n);
                   }
                 });
  });
}

WEFT_KERNEL(one_hot) {
  const int64_t classes = attrs.as<DimAttrs>().extra;
  const int64_t* index = packed<int64_t>(context, inputs[0]);
  int64_t* out = context.data<int64_t>(outputs[0]);
  parallel_for(inputs[0]->numel, rows_per_task(classes), [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      if (index[r] < 0 || index[r] >= classes) detail::fail_class("one_hot", index[r], r, classes);
      for (int64_t c = 0; c < classes; ++c) out[r * classes + c] = c == index[r];
    }
  });
}

}  // namespace weft::inline v0::WEFT_LEVEL
