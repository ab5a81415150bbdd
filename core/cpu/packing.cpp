#include <weft/core/cpu/packing.hpp>

#include <algorithm>
#include <cstring>

#include <weft/core/base/parallel.hpp>
#include <weft/core/kernel/half.hpp>

namespace weft::inline v0::detail {

namespace {

constexpr int64_t kGrain = 16384;  // elements that take about 20 us

/// Calls visit(offset in the tensor, position in C order, count, stride) for each innermost row.
template <class Visit>
void each_row(TensorRef t, const Visit& visit) {
  if (t->numel == 0) return;
  const int last = t->rank() - 1;
  const int64_t length = last < 0 ? 1 : t->shape[last], stride = last < 0 ? 1 : t->strides[last];
  v0::parallel_for(t->numel / length, std::max<int64_t>(1, kGrain / length),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t r = begin; r < end; ++r) {
                       int64_t rest = r, offset = 0;
                       for (int d = last - 1; d >= 0; --d) {
                         offset += rest % t->shape[d] * t->strides[d];
                         rest /= t->shape[d];
                       }
                       visit(offset, r * length, length, stride);
                     }
                   });
}

template <class T>
void gather(const std::byte* from, TensorRef t, std::byte* to) {
  const auto* source = reinterpret_cast<const T*>(from);
  auto* target = reinterpret_cast<T*>(to);
  each_row(t, [=](int64_t offset, int64_t position, int64_t count, int64_t stride) {
    for (int64_t i = 0; i < count; ++i) target[position + i] = source[offset + i * stride];
  });
}

template <class T>
void scatter(const std::byte* from, TensorRef t, std::byte* to) {
  const auto* source = reinterpret_cast<const T*>(from);
  auto* target = reinterpret_cast<T*>(to);
  each_row(t, [=](int64_t offset, int64_t position, int64_t count, int64_t stride) {
    for (int64_t i = 0; i < count; ++i) target[offset + i * stride] = source[position + i];
  });
}

}  // namespace

const std::byte* packed(Context& context, TensorRef t) {
  if (t->contiguous) return context.bytes(t);
  std::byte* copy = context.workspace(static_cast<size_t>(t->numel * t->item_size()));
  switch (t->item_size()) {
    case 1: gather<uint8_t>(context.bytes(t), t, copy); break;
    case 2: gather<uint16_t>(context.bytes(t), t, copy); break;
    case 4: gather<uint32_t>(context.bytes(t), t, copy); break;
    default: gather<uint64_t>(context.bytes(t), t, copy); break;
  }
  return copy;
}

const float* widened(Context& context, TensorRef t) {
  if (t->dtype == DType::f32) return reinterpret_cast<const float*>(packed(context, t));
  auto* wide =
      reinterpret_cast<float*>(context.workspace(static_cast<size_t>(t->numel) * sizeof(float)));
  const auto* source = reinterpret_cast<const uint16_t*>(context.bytes(t));
  const bool half = t->dtype == DType::f16;
  each_row(t, [=](int64_t offset, int64_t position, int64_t count, int64_t stride) {
    for (int64_t i = 0; i < count; ++i) {
      const uint16_t value = source[offset + i * stride];
      wide[position + i] = half ? kernel::float_from_half(value) : kernel::float_from_bfloat(value);
    }
  });
  return wide;
}

void unpack(const Context& context, const std::byte* from, TensorRef out) {
  std::byte* to = context.bytes(out);
  switch (out->item_size()) {
    case 1: return scatter<uint8_t>(from, out, to);
    case 2: return scatter<uint16_t>(from, out, to);
    case 4: return scatter<uint32_t>(from, out, to);
    default: return scatter<uint64_t>(from, out, to);
  }
}

void narrow(const Context& context, const float* from, TensorRef out) {
  if (out->dtype == DType::f32)
    return unpack(context, reinterpret_cast<const std::byte*>(from), out);
  auto* target = reinterpret_cast<uint16_t*>(context.bytes(out));
  const bool half = out->dtype == DType::f16;
  each_row(out, [=](int64_t offset, int64_t position, int64_t count, int64_t stride) {
    for (int64_t i = 0; i < count; ++i) {
      const float value = from[position + i];
      target[offset + i * stride] =
          half ? kernel::half_from_float(value) : kernel::bfloat_from_float(value);
    }
  });
}

std::byte* thread_scratch(size_t bytes) {
  static thread_local Storage memory;
  if (!memory || memory->bytes < bytes)
    memory = Storage::allocate(bytes, Device::cpu(), "workspace");
  return memory->data;
}

}  // namespace weft::inline v0::detail
