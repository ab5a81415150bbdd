// Joining tensors and placing them into larger ones.
#include <weft/core/cpu/strided.hpp>
#include <weft/core/row_attrs.hpp>
#include <weft/core/view_attrs.hpp>

namespace weft::inline v0::WEFT_LEVEL {

namespace {

WEFT_ROW void copy_bytes(std::byte* out, const std::byte* from, int64_t bytes) {
  __builtin_memcpy(out, from, static_cast<size_t>(bytes));
}

/// Elements of `x` in C order into rows of `width` that are `pitch` apart.
template <class T>
void copy_rows(const TensorMeta& meta, const T* x, T* out, int64_t width, int64_t pitch) {
  DimWalk walk;
  for (int i = 0; i < meta.rank(); ++i) walk.add(meta.shape[i], meta.strides[i]);
  parallel_for(meta.numel / width, rows_per_task(width), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      gather_range(x, walk, r * width, (r + 1) * width, out + r * pitch);
  });
}

/// Elements on one side of a diagonal of the last two dims, zeros on the other.
template <class T>
void triangle(Context& context, TensorRef in, TensorRef result, int64_t diagonal, bool upper) {
  const T* x = packed<T>(context, in);
  T* out = context.data<T>(result);
  const int rank = result->rank();
  const int64_t rows = result->shape[rank - 2], columns = result->shape[rank - 1];
  parallel_for(result->numel / columns, rows_per_task(columns), [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      int64_t cut = r % rows + diagonal + (upper ? 0 : 1);  // the first column of the upper part
      cut = cut < 0 ? 0 : cut > columns ? columns : cut;
      for (int64_t j = 0; j < columns; ++j) {
        const bool kept = upper ? j >= cut : j < cut;
        out[r * columns + j] = kept ? x[r * columns + j] : T(0);
      }
    }
  });
}

/// Where a padded position comes from along one dim; -1: from nowhere.
WEFT_ROW int64_t pad_source(int64_t position, int64_t before, int64_t size, PadMode mode) {
  const int64_t at = position - before;
  if (at >= 0 && at < size) return at;
  if (mode == PadMode::constant) return -1;
  if (mode == PadMode::replicate) return at < 0 ? 0 : size - 1;
  return at < 0 ? -at : 2 * (size - 1) - at;
}

/// Calls f(padded row, row of the source or -1) for rows of the last dim.
template <class F>
WEFT_ROW void for_padded_rows(const Shape& padded_shape, const Shape& shape, const PadAttrs& pads,
                              int64_t begin, int64_t end, const F& f) {
  const int rank = static_cast<int>(padded_shape.rank());
  for (int64_t r = begin; r < end; ++r) {
    int64_t rest = r, from = 0, stride = 1;
    for (int i = rank - 2; i >= 0; --i) {
      const int64_t q = rest / padded_shape[i];
      const int64_t at =
          pad_source(rest - q * padded_shape[i], pads.before[i], shape[i], pads.mode);
      from = at < 0 || from < 0 ? -1 : from + at * stride;
      stride *= shape[i];
      rest = q;
    }
    f(r, from);
  }
}

}  // namespace

WEFT_KERNEL(cat) {
  const int dim = attrs.as<DimAttrs>().dim;
  const DimView view(outputs[0]->shape, dim);
  for_size(outputs[0]->dtype, [&](auto zero) {
    using T = decltype(zero);
    T* out = context.data<T>(outputs[0]);
    const int64_t pitch = view.size * view.inner;
    for (const TensorRef x : inputs) {
      if (x->numel == 0) continue;
      const int64_t width = x->shape[dim] * view.inner;
      copy_rows(*x, context.data<T>(x), out, width, pitch);
      out += width;
    }
  });
}

WEFT_KERNEL(zero_scatter_slice) {
  const auto place = attrs.as<ZeroScatterAttrs>();
  const DimView view(outputs[0]->shape, place.dim);
  const int64_t n = inputs[0]->shape[place.dim];
  for_size(outputs[0]->dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* x = packed<T>(context, inputs[0]);
    T* out = context.data<T>(outputs[0]);
    // Each row of the result is written once: zeros or a row of the input.
    parallel_for(
        view.outer * view.size, rows_per_task(view.inner), [=](int64_t begin, int64_t end) {
          for (int64_t r = begin; r < end; ++r) {
            const int64_t o = r / view.size, at = r % view.size - place.start, k = at / place.step;
            T* to = out + r * view.inner;
            if (at >= 0 && at % place.step == 0 && k < n)
              copy_bytes(reinterpret_cast<std::byte*>(to),
                         reinterpret_cast<const std::byte*>(x + (o * n + k) * view.inner),
                         view.inner * static_cast<int64_t>(sizeof(T)));
            else
              for (int64_t i = 0; i < view.inner; ++i) to[i] = T(0);
          }
        });
  });
}

WEFT_KERNEL(tril) {
  if (outputs[0]->numel == 0) return;
  for_size(outputs[0]->dtype, [&](auto zero) {
    triangle<decltype(zero)>(context, inputs[0], outputs[0], attrs.as<DimAttrs>().extra, false);
  });
}

WEFT_KERNEL(triu) {
  if (outputs[0]->numel == 0) return;
  for_size(outputs[0]->dtype, [&](auto zero) {
    triangle<decltype(zero)>(context, inputs[0], outputs[0], attrs.as<DimAttrs>().extra, true);
  });
}

// A walk from the other end with negative strides.
WEFT_KERNEL(flip) {
  const auto flipped = attrs.as<uint32_t>();
  const TensorRef x = inputs[0];
  if (x->numel == 0) return;
  DimWalk walk;
  int64_t start = 0;
  for (int i = 0; i < x->rank(); ++i) {
    const bool turns = flipped >> i & 1u;
    if (turns) start += (x->shape[i] - 1) * x->strides[i];
    walk.add(x->shape[i], turns ? -x->strides[i] : x->strides[i]);
  }
  for_size(x->dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* from = context.data<T>(x) + start;
    T* out = context.data<T>(outputs[0]);
    parallel_for(x->numel, 1 << 15, [&](int64_t begin, int64_t end) {
      gather_range(from, walk, begin, end, out + begin);
    });
  });
}

WEFT_KERNEL(pad) {
  const auto pads = attrs.as<PadAttrs>();
  if (outputs[0]->numel == 0) return;
  const Shape &shape = inputs[0]->shape, &padded_shape = outputs[0]->shape;
  const int last = outputs[0]->rank() - 1;
  const int64_t width = padded_shape[last], size = shape[last], before = pads.before[last];
  for_any(outputs[0]->dtype, [&](auto zero) {
    using T = decltype(zero);
    T fill;
    if constexpr (kIsFloating<T>)
      narrow(&fill, static_cast<Compute<T>>(pads.value));
    else
      fill = static_cast<T>(pads.value);
    const T* x = packed<T>(context, inputs[0]);
    T* out = context.data<T>(outputs[0]);
    parallel_for(outputs[0]->numel / width, rows_per_task(width), [&](int64_t begin, int64_t end) {
      for_padded_rows(padded_shape, shape, pads, begin, end, [&](int64_t r, int64_t from) {
        for (int64_t j = 0; j < width; ++j) {
          const int64_t at = from < 0 ? -1 : pad_source(j, before, size, pads.mode);
          out[r * width + j] = at < 0 ? fill : x[from * size + at];
        }
      });
    });
  });
}

// Gradient of the modes that repeat elements; one thread, in order, since positions meet.
WEFT_KERNEL(pad_backward) {
  const auto pads = attrs.as<PadAttrs>();
  const Shape &shape = outputs[0]->shape, &padded_shape = inputs[0]->shape;
  const int last = inputs[0]->rank() - 1;
  for_floating(outputs[0]->dtype, [&](auto zero) {
    using T = decltype(zero);
    using S = Compute<T>;
    const T* g = packed<T>(context, inputs[0]);
    T* out = context.data<T>(outputs[0]);
    const int64_t n = outputs[0]->numel;
    S* sums = reinterpret_cast<S*>(context.workspace(static_cast<size_t>(n) * sizeof(S)));
    for (int64_t i = 0; i < n; ++i) sums[i] = 0;
    if (inputs[0]->numel > 0) {
      const int64_t width = padded_shape[last], size = shape[last], before = pads.before[last];
      for_padded_rows(padded_shape, shape, pads, 0, inputs[0]->numel / width,
                      [&](int64_t r, int64_t to) {
                        for (int64_t j = 0; j < width; ++j) {
                          const int64_t at = pad_source(j, before, size, pads.mode);
                          sums[to * size + at] += widen(g[r * width + j]);
                        }
                      });
    }
    for (int64_t i = 0; i < n; ++i) narrow(out + i, sums[i]);
  });
}

}  // namespace weft::inline v0::WEFT_LEVEL
