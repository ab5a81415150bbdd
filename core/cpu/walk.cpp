#include <weft/core/cpu/walk.hpp>
#include <weft/core/kernel/macros.hpp>

namespace weft::inline v0::WEFT_LEVEL {

namespace {

/// Bytes from element to element of `t` along dim d of a shape of `rank` dims; 0 where broadcast.
int64_t stride_of(TensorRef t, int d, int rank) {
  const int own = d - (rank - t->rank());
  return own < 0 || t->shape[own] == 1 ? 0 : t->strides[own] * t->item_size();
}

}  // namespace

Walk::Walk(Context& context, Inputs inputs, TensorRef output) : numel(output->numel) {
  const int dims = output->rank();
  for (const TensorRef input : inputs) {
    operands[count].data = context.bytes(input);
    operands[count++].dtype = input->dtype;
  }
  operands[count].data = context.bytes(output);
  operands[count++].dtype = output->dtype;
  const auto tensor = [&](int k) {
    return k + 1 < count ? inputs[static_cast<size_t>(k)] : output;
  };
  rank = 0;
  for (int d = 0; d < dims; ++d) {
    const int64_t size = output->shape[d];
    if (size == 1) continue;
    // Dims d' < d are joined with d where every operand steps over the whole of d at once.
    bool joins = rank > 0;
    for (int k = 0; k < count && joins; ++k)
      joins = operands[k].strides[rank - 1] == stride_of(tensor(k), d, dims) * size;
    if (!joins) shape[rank++] = 1;
    shape[rank - 1] *= size;
    for (int k = 0; k < count; ++k) operands[k].strides[rank - 1] = stride_of(tensor(k), d, dims);
  }
  if (rank == 0) {
    // One element: its strides matter only in so far as packed code paths may be taken.
    shape[rank++] = 1;
    for (int k = 0; k < count; ++k) operands[k].strides[0] = size_of(operands[k].dtype);
  }
}

template <class C>
void load_run(C* to, const std::byte* from, DType dtype, int64_t stride, int64_t n) {
  with_type(dtype, [&](auto sample) {
    using S = decltype(sample);
    if (stride == static_cast<int64_t>(sizeof(S))) {
      const S* source = reinterpret_cast<const S*>(from);
      WEFT_INDEPENDENT
      for (int64_t i = 0; i < n; ++i) to[i] = kernel::convert<C>(source[i]);
    } else if (stride == 0) {
      const C value = kernel::convert<C>(*reinterpret_cast<const S*>(from));
      for (int64_t i = 0; i < n; ++i) to[i] = value;
    } else {
      for (int64_t i = 0; i < n; ++i)
        to[i] = kernel::convert<C>(*reinterpret_cast<const S*>(from + i * stride));
    }
  });
}

template <class C>
void store_run(std::byte* to, DType dtype, int64_t stride, const C* from, int64_t n) {
  with_type(dtype, [&](auto sample) {
    using S = decltype(sample);
    if (stride == static_cast<int64_t>(sizeof(S))) {
      S* target = reinterpret_cast<S*>(to);
      WEFT_INDEPENDENT
      for (int64_t i = 0; i < n; ++i) target[i] = kernel::convert<S>(from[i]);
    } else {
      for (int64_t i = 0; i < n; ++i)
        *reinterpret_cast<S*>(to + i * stride) = kernel::convert<S>(from[i]);
    }
  });
}

bool is_dense(const Walk& walk, int operand) {
  int64_t expected = size_of(walk.operands[operand].dtype);
  for (int d = walk.rank - 1; d >= 0; --d) {
    if (walk.operands[operand].strides[d] != expected) return false;
    expected *= walk.shape[d];
  }
  return true;
}

namespace {

/// Calls f(address, stride, done, n) for the rows of one operand that make up elements begin …
/// begin + n - 1.
template <class F>
[[gnu::always_inline]] inline void for_rows(const Walk& walk, int operand, int64_t begin, int64_t n,
                                            const F& f) {
  const int last = walk.rank - 1;
  const int64_t* strides = walk.operands[operand].strides;
  std::byte* at = walk.operands[operand].data;
  int64_t index[kMaxRank] = {};
  for (int64_t d = last, rest = begin; d >= 0; --d) {
    index[d] = rest % walk.shape[d];
    rest /= walk.shape[d];
    at += index[d] * strides[d];
  }
  for (int64_t done = 0; done < n;) {
    const int64_t left = walk.shape[last] - index[last];
    const int64_t size = left < n - done ? left : n - done;
    f(at, strides[last], done, size);
    done += size;
    if (done >= n) return;
    at -= index[last] * strides[last];
    index[last] = 0;
    for (int d = last - 1;; --d) {
      at += strides[d];
      if (++index[d] < walk.shape[d]) break;
      at -= index[d] * strides[d];
      index[d] = 0;
    }
  }
}

}  // namespace

template <class C>
void load_elements(C* to, const Walk& walk, int operand, int64_t begin, int64_t n) {
  with_type(walk.operands[operand].dtype, [&](auto sample) {
    using S = decltype(sample);
    for_rows(walk, operand, begin, n,
             [&](const std::byte* at, int64_t stride, int64_t done, int64_t size) {
               for (int64_t i = 0; i < size; ++i)
                 to[done + i] = kernel::convert<C>(*reinterpret_cast<const S*>(at + i * stride));
             });
  });
}

template <class C>
void store_elements(const Walk& walk, int operand, int64_t begin, const C* from, int64_t n) {
  with_type(walk.operands[operand].dtype, [&](auto sample) {
    using S = decltype(sample);
    for_rows(walk, operand, begin, n,
             [&](std::byte* at, int64_t stride, int64_t done, int64_t size) {
               for (int64_t i = 0; i < size; ++i)
                 *reinterpret_cast<S*>(at + i * stride) = kernel::convert<S>(from[done + i]);
             });
  });
}

template void load_elements(float*, const Walk&, int, int64_t, int64_t);
template void load_elements(double*, const Walk&, int, int64_t, int64_t);
template void load_elements(int64_t*, const Walk&, int, int64_t, int64_t);
template void store_elements(const Walk&, int, int64_t, const float*, int64_t);
template void store_elements(const Walk&, int, int64_t, const double*, int64_t);
template void store_elements(const Walk&, int, int64_t, const int64_t*, int64_t);
template void store_elements(const Walk&, int, int64_t, const bool*, int64_t);

template void load_run(float*, const std::byte*, DType, int64_t, int64_t);
template void load_run(double*, const std::byte*, DType, int64_t, int64_t);
template void load_run(int64_t*, const std::byte*, DType, int64_t, int64_t);
template void store_run(std::byte*, DType, int64_t, const float*, int64_t);
template void store_run(std::byte*, DType, int64_t, const double*, int64_t);
template void store_run(std::byte*, DType, int64_t, const int64_t*, int64_t);
template void store_run(std::byte*, DType, int64_t, const bool*, int64_t);

namespace {

template <class T>
void copy_elements(std::byte* to, int64_t to_stride, const std::byte* from, int64_t from_stride,
                   int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    *reinterpret_cast<T*>(to + i * to_stride) = *reinterpret_cast<const T*>(from + i * from_stride);
}

}  // namespace

void copy_run(std::byte* to, int64_t to_stride, const std::byte* from, int64_t from_stride,
              int64_t size, int64_t n) {
  if (to_stride == size && from_stride == size) {
    __builtin_memcpy(to, from, static_cast<size_t>(n * size));
    return;
  }
  switch (size) {
    case 1: copy_elements<uint8_t>(to, to_stride, from, from_stride, n); break;
    case 2: copy_elements<uint16_t>(to, to_stride, from, from_stride, n); break;
    case 4: copy_elements<uint32_t>(to, to_stride, from, from_stride, n); break;
    default: copy_elements<uint64_t>(to, to_stride, from, from_stride, n); break;
  }
}

}  // namespace weft::inline v0::WEFT_LEVEL
