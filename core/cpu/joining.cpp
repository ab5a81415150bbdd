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

}  // namespace weft::inline v0::WEFT_LEVEL
