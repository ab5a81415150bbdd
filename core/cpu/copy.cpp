// Copies: to other strides, to another dtype.
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
  parallel_for(walk.numel, kLight / 4, [&](int64_t begin, int64_t end) {
    for_runs(walk, begin, end, [&](std::byte* const* pointers, int64_t n) {
      if (from_dtype == to_dtype)
        copy_run(pointers[1], walk.inner_stride(1), pointers[0], walk.inner_stride(0),
                 size_of(to_dtype), n);
      else
        convert_run(pointers[1], to_dtype, walk.inner_stride(1), pointers[0], from_dtype,
                    walk.inner_stride(0), n);
    });
  });
}

}  // namespace weft::inline v0::WEFT_LEVEL
