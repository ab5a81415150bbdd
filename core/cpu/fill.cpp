// Kernels that need no input: constants, sequences, random numbers.
#include <weft/core/base/parallel.hpp>
#include <weft/core/cpu/pointwise.hpp>
#include <weft/core/cpu/walk.hpp>
#include <weft/core/pointwise_attrs.hpp>
#include <weft/core/random_fill.hpp>

namespace weft::inline v0::WEFT_LEVEL {

namespace {

template <class T>
T element(const NumberAttr& number) {
  return number.is_real ? kernel::convert<T>(number.real) : kernel::convert<T>(number.whole);
}

template <class T>
void fill_run(std::byte* to, int64_t stride, T value, int64_t n) {
  if (stride == static_cast<int64_t>(sizeof(T))) {
    T* elements = reinterpret_cast<T*>(to);
    for (int64_t i = 0; i < n; ++i) elements[i] = value;
  } else {
    for (int64_t i = 0; i < n; ++i) *reinterpret_cast<T*>(to + i * stride) = value;
  }
}

/// Makes blocks of elements by make(first, n, buffer) and writes them to the output, whatever its
/// dtype and strides. `first` is always a multiple of kBlockElements.
template <class C, class Make>
void generate(Context& context, TensorRef output, int32_t grain, const Make& make) {
  if (output->numel == 0) return;
  const Walk walk(context, {}, output);
  const int64_t blocks = (walk.numel + kBlockElements - 1) / kBlockElements;
  parallel_for(blocks, grain / kBlockElements, [&](int64_t begin, int64_t end) {
    alignas(64) C buffer[kBlockElements];
    for (int64_t b = begin; b < end; ++b) {
      const int64_t first = b * kBlockElements, left = walk.numel - first;
      const int64_t n = left < kBlockElements ? left : kBlockElements;
      make(first, n, buffer);
      const C* from = buffer;
      for_runs(walk, first, first + n, [&](std::byte* const* to, int64_t size) {
        store_run(to[0], output->dtype, walk.inner_stride(0), from, size);
        from += size;
      });
    }
  });
}

}  // namespace

WEFT_KERNEL(full) {
  const TensorRef out = outputs[0];
  const NumberAttr number = attrs.as<FullAttrs>().value;
  with_type(out->dtype, [&](auto sample) {
    using T = decltype(sample);
    const T value = element<T>(number);
    constexpr int64_t kItem = sizeof(T);
    if (out->contiguous) {
      std::byte* data = context.bytes(out);
      parallel_for(out->numel, kLight, [&](int64_t begin, int64_t end) {
        fill_run(data + begin * kItem, kItem, value, end - begin);
      });
      return;
    }
    const Walk walk(context, {}, out);
    parallel_for(walk.numel, kLight, [&](int64_t begin, int64_t end) {
      for_runs(walk, begin, end, [&](std::byte* const* to, int64_t n) {
        fill_run(to[0], walk.inner_stride(0), value, n);
      });
    });
  });
}

WEFT_KERNEL(arange) {
  const auto range = attrs.as<ArangeAttrs>();
  if (!range.start.is_real && !range.step.is_real) {
    generate<int64_t>(context, outputs[0], kLight, [&](int64_t first, int64_t n, int64_t* to) {
      for (int64_t i = 0; i < n; ++i) to[i] = range.start.whole + (first + i) * range.step.whole;
    });
    return;
  }
  generate<double>(context, outputs[0], kLight, [&](int64_t first, int64_t n, double* to) {
    for (int64_t i = 0; i < n; ++i)
      to[i] = range.start.real + static_cast<double>(first + i) * range.step.real;
  });
}

WEFT_KERNEL(random_uniform) {
  const PhiloxState state = attrs.as<RandomAttrs>().state;
  const DType dtype = outputs[0]->dtype;
  if (dtype == DType::f64) {
    generate<double>(context, outputs[0], kHeavy, [&](int64_t first, int64_t n, double* to) {
      detail::uniform_run(state, first, n, to);
    });
    return;
  }
  // As many digits as the dtype has, so that no number is rounded up to 1.
  const int digits = dtype == DType::f16 ? 11 : dtype == DType::bf16 ? 8 : 24;
  generate<float>(context, outputs[0], kHeavy, [&](int64_t first, int64_t n, float* to) {
    detail::uniform_run(state, first, n, digits, to);
  });
}

WEFT_KERNEL(random_normal) {
  const PhiloxState state = attrs.as<RandomAttrs>().state;
  if (outputs[0]->dtype == DType::f64)
    generate<double>(context, outputs[0], kHeavy, [&](int64_t first, int64_t n, double* to) {
      detail::normal_run(state, first, n, to);
    });
  else
    generate<float>(context, outputs[0], kHeavy, [&](int64_t first, int64_t n, float* to) {
      detail::normal_run(state, first, n, to);
    });
}

WEFT_KERNEL(random_integers) {
  const auto random = attrs.as<RandomAttrs>();
  const uint64_t range = static_cast<uint64_t>(random.high) - static_cast<uint64_t>(random.low);
  generate<int64_t>(context, outputs[0], kHeavy, [&](int64_t first, int64_t n, int64_t* to) {
    detail::integer_run(random.state, first, n, random.low, range, to);
  });
}

}  // namespace weft::inline v0::WEFT_LEVEL
