// Pooling over windows of the last two dims. 16-bit inputs are widened first; a plane belongs to
// one thread, so that sums do not depend on their number.
#include <weft/core/base/parallel.hpp>
#include <weft/core/conv_attrs.hpp>
#include <weft/core/cpu/kernel.hpp>
#include <weft/core/cpu/packing.hpp>

namespace weft::inline v0::WEFT_LEVEL {

namespace {

int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

// Sizes of the planes; `in` is the side of the larger planes, forward and backward.
struct Planes {
  int64_t count, h, w, oh, ow;
  Pool2dAttrs attrs;
};

Planes planes_of(const Attrs& attrs, TensorRef large, TensorRef small) {
  const int r = large->rank();
  Planes p{1,
           large->shape[r - 2],
           large->shape[r - 1],
           small->shape[r - 2],
           small->shape[r - 1],
           attrs.as<Pool2dAttrs>()};
  for (int d = 0; d + 2 < r; ++d) p.count *= large->shape[d];
  return p;
}

int64_t grain_of(const Planes& p) {
  const int64_t work = p.oh * p.ow * p.attrs.kernel[0] * p.attrs.kernel[1] + p.h * p.w;
  return 1 + 20000 / (work + 1);
}

// Working memory of the kernels below: f32 or f64, packed.
template <class T>
const T* load(Context& context, TensorRef t) {
  if constexpr (sizeof(T) == sizeof(double))
    return reinterpret_cast<const T*>(detail::packed(context, t));
  else
    return detail::widened(context, t);
}

template <class T>
T* target(Context& context, TensorRef t) {
  if (t->contiguous && t->item_size() == static_cast<int64_t>(sizeof(T))) return context.data<T>(t);
  return reinterpret_cast<T*>(context.workspace(static_cast<size_t>(t->numel) * sizeof(T)));
}

template <class T>
void finish(const Context& context, const T* from, TensorRef out) {
  if (reinterpret_cast<const std::byte*>(from) == context.bytes(out)) return;
  if constexpr (sizeof(T) == sizeof(double))
    detail::unpack(context, reinterpret_cast<const std::byte*>(from), out);
  else
    detail::narrow(context, from, out);
}

/// The largest element of a window and its place in the plane. A NaN wins, as in PyTorch.
template <class T>
void max_plane(const Planes& p, const T* x, T* y, int64_t* index) {
  const Pool2dAttrs& a = p.attrs;
  for (int64_t i = 0; i < p.oh; ++i)
    for (int64_t j = 0; j < p.ow; ++j) {
      int64_t row = i * a.stride[0] - a.padding[0], column = j * a.stride[1] - a.padding[1];
      const int64_t row_end = least(row + (a.kernel[0] - 1) * a.dilation[0] + 1, p.h);
      const int64_t column_end = least(column + (a.kernel[1] - 1) * a.dilation[1] + 1, p.w);
      while (row < 0) row += a.dilation[0];
      while (column < 0) column += a.dilation[1];
      int64_t best = row * p.w + column;
      T value = x[best];
      for (int64_t r = row; r < row_end; r += a.dilation[0])
        for (int64_t c = column; c < column_end; c += a.dilation[1]) {
          const T other = x[r * p.w + c];
          const bool wins = other > value || other != other;
          best = wins ? r * p.w + c : best;
          value = wins ? other : value;
        }
      y[i * p.ow + j] = value;
      index[i * p.ow + j] = best;
    }
}

// A window of avg_pool2d, cut to the plane, and what its sum is divided by.
struct Window {
  int64_t row, row_end, column, column_end, divisor;
};

Window window_of(const Planes& p, int64_t i, int64_t j) {
  const Pool2dAttrs& a = p.attrs;
  Window v;
  v.row = i * a.stride[0] - a.padding[0];
  v.column = j * a.stride[1] - a.padding[1];
  v.row_end = least(v.row + a.kernel[0], p.h + a.padding[0]);
  v.column_end = least(v.column + a.kernel[1], p.w + a.padding[1]);
  const int64_t padded = (v.row_end - v.row) * (v.column_end - v.column);
  v.row = most(v.row, 0);
  v.column = most(v.column, 0);
  v.row_end = least(v.row_end, p.h);
  v.column_end = least(v.column_end, p.w);
  v.divisor = a.count_include_pad ? padded : (v.row_end - v.row) * (v.column_end - v.column);
  return v;
}

template <class T>
void avg_plane(const Planes& p, const T* x, T* y) {
  for (int64_t i = 0; i < p.oh; ++i)
    for (int64_t j = 0; j < p.ow; ++j) {
      const Window v = window_of(p, i, j);
      T total = T(0);
      for (int64_t r = v.row; r < v.row_end; ++r)
        for (int64_t c = v.column; c < v.column_end; ++c) total += x[r * p.w + c];
      y[i * p.ow + j] = v.divisor > 0 ? total / static_cast<T>(v.divisor) : T(0);
    }
}

template <class T>
void avg_plane_backward(const Planes& p, const T* g, T* x) {
  for (int64_t i = 0; i < p.h * p.w; ++i) x[i] = T(0);
  for (int64_t i = 0; i < p.oh; ++i)
    for (int64_t j = 0; j < p.ow; ++j) {
      const Window v = window_of(p, i, j);
      const T share = v.divisor > 0 ? g[i * p.ow + j] / static_cast<T>(v.divisor) : T(0);
      for (int64_t r = v.row; r < v.row_end; ++r)
        for (int64_t c = v.column; c < v.column_end; ++c) x[r * p.w + c] += share;
    }
}

template <class T>
void max_forward(Context& context, const Attrs& attrs, TensorRef x, TensorRef y, TensorRef index) {
  const Planes p = planes_of(attrs, x, y);
  const T* from = load<T>(context, x);
  T* to = target<T>(context, y);
  int64_t* places = context.data<int64_t>(index);
  parallel_for(p.count, grain_of(p), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      max_plane(p, from + i * p.h * p.w, to + i * p.oh * p.ow, places + i * p.oh * p.ow);
  });
  finish(context, to, y);
}

template <class T>
void max_backward(Context& context, const Attrs& attrs, TensorRef g, TensorRef index, TensorRef x) {
  const Planes p = planes_of(attrs, x, g);
  const T* from = load<T>(context, g);
  const auto* places = reinterpret_cast<const int64_t*>(detail::packed(context, index));
  T* to = target<T>(context, x);
  parallel_for(p.count, grain_of(p), [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      T* plane = to + n * p.h * p.w;
      for (int64_t i = 0; i < p.h * p.w; ++i) plane[i] = T(0);
      for (int64_t i = n * p.oh * p.ow; i < (n + 1) * p.oh * p.ow; ++i) plane[places[i]] += from[i];
    }
  });
  finish(context, to, x);
}

template <class T>
void max_gather(Context& context, const Attrs& attrs, TensorRef x, TensorRef index, TensorRef y) {
  const Planes p = planes_of(attrs, x, y);
  const T* from = load<T>(context, x);
  const auto* places = reinterpret_cast<const int64_t*>(detail::packed(context, index));
  T* to = target<T>(context, y);
  parallel_for(p.count, grain_of(p), [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n)
      for (int64_t i = n * p.oh * p.ow; i < (n + 1) * p.oh * p.ow; ++i)
        to[i] = from[n * p.h * p.w + places[i]];
  });
  finish(context, to, y);
}

template <class T>
void avg_forward(Context& context, const Attrs& attrs, TensorRef x, TensorRef y) {
  const Planes p = planes_of(attrs, x, y);
  const T* from = load<T>(context, x);
  T* to = target<T>(context, y);
  parallel_for(p.count, grain_of(p), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) avg_plane(p, from + i * p.h * p.w, to + i * p.oh * p.ow);
  });
  finish(context, to, y);
}

template <class T>
void avg_backward(Context& context, const Attrs& attrs, TensorRef g, TensorRef x) {
  const Planes p = planes_of(attrs, x, g);
  const T* from = load<T>(context, g);
  T* to = target<T>(context, x);
  parallel_for(p.count, grain_of(p), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      avg_plane_backward(p, from + i * p.oh * p.ow, to + i * p.h * p.w);
  });
  finish(context, to, x);
}

}  // namespace

WEFT_KERNEL(max_pool2d) {
  if (outputs[0]->numel == 0) return;
  if (inputs[0]->dtype == DType::f64)
    max_forward<double>(context, attrs, inputs[0], outputs[0], outputs[1]);
  else
    max_forward<float>(context, attrs, inputs[0], outputs[0], outputs[1]);
}

WEFT_KERNEL(max_pool2d_backward) {
  if (outputs[0]->numel == 0) return;
  if (inputs[0]->dtype == DType::f64)
    max_backward<double>(context, attrs, inputs[0], inputs[1], outputs[0]);
  else
    max_backward<float>(context, attrs, inputs[0], inputs[1], outputs[0]);
}

WEFT_KERNEL(max_pool2d_gather) {
  if (outputs[0]->numel == 0) return;
  if (inputs[0]->dtype == DType::f64)
    max_gather<double>(context, attrs, inputs[0], inputs[1], outputs[0]);
  else
    max_gather<float>(context, attrs, inputs[0], inputs[1], outputs[0]);
}

WEFT_KERNEL(avg_pool2d) {
  if (outputs[0]->numel == 0) return;
  if (inputs[0]->dtype == DType::f64)
    avg_forward<double>(context, attrs, inputs[0], outputs[0]);
  else
    avg_forward<float>(context, attrs, inputs[0], outputs[0]);
}

WEFT_KERNEL(avg_pool2d_backward) {
  if (outputs[0]->numel == 0) return;
  if (inputs[0]->dtype == DType::f64)
    avg_backward<double>(context, attrs, inputs[0], outputs[0]);
  else
    avg_backward<float>(context, attrs, inputs[0], outputs[0]);
}

}  // namespace weft::inline v0::WEFT_LEVEL
