// Index arithmetic of strided tensors for kernel files.
#pragma once

#include <weft/core/base/parallel.hpp>
#include <weft/core/cpu/vector.hpp>

namespace weft::inline v0::WEFT_LEVEL {

/// A list of dims with the strides of one tensor, neighbours joined where they lie packed.
struct DimWalk {
  int rank = 0;
  int64_t count = 1;
  int64_t shape[kMaxRank];
  int64_t strides[kMaxRank];

  /// Appends a dim inside the ones before.
  WEFT_ROW void add(int64_t size, int64_t stride) {
    count *= size;
    if (size == 1) return;
    if (rank > 0 && strides[rank - 1] == size * stride) {
      shape[rank - 1] *= size;
      strides[rank - 1] = stride;
      return;
    }
    shape[rank] = size;
    strides[rank] = stride;
    ++rank;
  }
  /// Where element `index` (in C order) lies.
  WEFT_ROW int64_t offset(int64_t index) const {
    int64_t at = 0;
    for (int i = rank - 1; i > 0; --i) {
      const int64_t q = index / shape[i];
      at += (index - q * shape[i]) * strides[i];
      index = q;
    }
    return rank > 0 ? at + index * strides[0] : at;
  }
  WEFT_ROW int64_t inner_size() const { return rank > 0 ? shape[rank - 1] : 1; }
  WEFT_ROW int64_t inner_stride() const { return rank > 0 ? strides[rank - 1] : 1; }
};

/// Copies elements begin … end (in C order) of a walk to packed memory.
template <class T>
void gather_range(const T* x, const DimWalk& walk, int64_t begin, int64_t end, T* out) {
  const int64_t inner = walk.inner_size(), stride = walk.inner_stride();
  for (int64_t i = begin; i < end;) {
    const int64_t column = i % inner;
    const int64_t n = inner - column < end - i ? inner - column : end - i;
    const T* from = x + walk.offset(i);
    if (stride == 1)
      __builtin_memcpy(static_cast<void*>(out), static_cast<const void*>(from),
                       static_cast<size_t>(n) * sizeof(T));
    else
      for (int64_t k = 0; k < n; ++k) out[k] = from[k * stride];
    out += n;
    i += n;
  }
}

/// The elements of `t` in C order: its own memory where it is packed, else a copy in the
/// workspace.
template <class T>
const T* packed(Context& context, TensorRef t) {
  const T* x = context.data<T>(t);
  if (t->contiguous || t->numel == 0) return x;
  DimWalk walk;
  for (int i = 0; i < t->rank(); ++i) walk.add(t->shape[i], t->strides[i]);
  T* copy = reinterpret_cast<T*>(context.workspace(static_cast<size_t>(t->numel) * sizeof(T)));
  parallel_for(t->numel, 1 << 15, [=](int64_t begin, int64_t end) {
    gather_range(x, walk, begin, end, copy + begin);
  });
  return copy;
}

/// How a packed tensor looks from one of its dims: [outer, size, inner].
struct DimView {
  int64_t outer = 1, size = 1, inner = 1;
  WEFT_ROW DimView(const Shape& shape, int dim) {
    const int rank = static_cast<int>(shape.rank());
    for (int i = 0; i < dim; ++i) outer *= shape[i];
    if (dim < rank) size = shape[dim];
    for (int i = dim + 1; i < rank; ++i) inner *= shape[i];
  }
};

/// Rows of `cost` elements each that make a task worth handing to another thread.
WEFT_ROW int64_t rows_per_task(int64_t cost, int64_t least = 1 << 15) {
  return cost >= least ? 1 : least / (cost > 0 ? cost : 1);
}

}  // namespace weft::inline v0::WEFT_LEVEL
