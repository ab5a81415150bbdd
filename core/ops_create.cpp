// Making tensors: constants, sequences, random numbers, memory of the caller.
#include <cmath>
#include <memory>
#include <vector>

#include <weft/core/backend.hpp>
#include <weft/core/base/check.hpp>
#include <weft/core/kernel/convert.hpp>
#include <weft/core/kernel/philox.hpp>
#include <weft/core/op.hpp>
#include <weft/core/ops.hpp>
#include <weft/core/pointwise_attrs.hpp>
#include <weft/core/pointwise_ops.hpp>
#include <weft/core/random.hpp>

namespace weft::inline v0 {

namespace {

TensorOptions like(const Tensor& x) { return {.dtype = x.dtype(), .device = x.device()}; }

TensorOptions natural(Scalar value) { return {.dtype = value.natural_dtype()}; }

uint64_t draws_of(const Shape& shape, int each) {
  return static_cast<uint64_t>(shape.numel()) * static_cast<uint64_t>(each);
}

Tensor set_requires_grad(const char* op, Tensor x, bool value) {
  WEFT_CHECK(ArgumentError, !value || x.is_floating_point(),
             "{}: only floating-point tensors can require grad, not {}", op, name_of(x.dtype()));
  x.impl()->requires_grad = value;
  return x;
}

/// Writes one element of `dtype` to memory.
void write_element(void* to, DType dtype, Scalar value) {
  const auto write = [&]<class T>(T) {
    *static_cast<T*>(to) = value.is_real() ? kernel::convert<T>(value.to_double())
                                           : kernel::convert<T>(value.to_int());
  };
  switch (dtype) {
    case DType::boolean: write(bool{}); break;
    case DType::i64: write(int64_t{}); break;
    case DType::f32: write(float{}); break;
    default: write(double{}); break;
  }
}

}  // namespace

namespace detail {

// A real number beside real tensors takes part in f32 or, beside f64, in f64, so that no digit of
// it is lost; beside whole numbers it makes the result f32. A whole number beside real tensors is
// stored as a real one: promotion gives the tensor's dtype either way.
Tensor wrap_number(Scalar value, const Tensor& like_) {
  const TensorImpl* other = like_.checked();
  const DType dtype = other->dtype == DType::f64  ? DType::f64
                      : is_floating(other->dtype) ? DType::f32
                                                  : value.natural_dtype();
  // On a device it is filled by its stream: a copy from the host would wait for all work before.
  Tensor number = other->device.is_cpu()
                      ? empty_for("scalar", Shape(), dtype, other->device)
                      : dispatch_factory(OpId::full, Attrs(FullAttrs{NumberAttr(value)}), Shape(),
                                         {.dtype = dtype, .device = other->device});
  number.impl()->wrapped_number = true;
  if (other->device.is_cpu()) [[likely]]
    write_element(number.impl()->data, dtype, value);
  return number;
}

void fail_ragged(size_t expected, size_t got) {
  fail<ArgumentError>("tensor: a row has {} values, the first one has {}", got, expected);
}

}  // namespace detail

Tensor empty(const Shape& shape, const TensorOptions& options) {
  return set_requires_grad("empty", empty_for("empty", shape, options.dtype, options.device),
                           options.requires_grad);
}

Tensor full(const Shape& shape, Scalar value) { return full(shape, value, natural(value)); }

Tensor full(const Shape& shape, Scalar value, const TensorOptions& options) {
  return dispatch_factory(OpId::full, Attrs(FullAttrs{NumberAttr(value)}), shape, options);
}

Tensor zeros(const Shape& shape, const TensorOptions& options) { return full(shape, 0, options); }
Tensor ones(const Shape& shape, const TensorOptions& options) { return full(shape, 1, options); }
Tensor zeros_like(const Tensor& x) { return zeros(x.shape(), like(x)); }
Tensor ones_like(const Tensor& x) { return ones(x.shape(), like(x)); }
Tensor full_like(const Tensor& x, Scalar value) { return full(x.shape(), value, like(x)); }
Tensor empty_like(const Tensor& x) { return empty(x.shape(), like(x)); }
Tensor scalar_tensor(Scalar value, const TensorOptions& options) {
  return full({}, value, options);
}

Tensor arange(Scalar end) { return arange(0, end, 1); }

Tensor arange(Scalar start, Scalar end, Scalar step) {
  const bool real = start.is_real() || end.is_real() || step.is_real();
  return arange(start, end, step, {.dtype = real ? DType::f32 : DType::i64});
}

Tensor arange(Scalar start, Scalar end, Scalar step, const TensorOptions& options) {
  const double from = start.to_double(), to = end.to_double(), by = step.to_double();
  WEFT_CHECK(ArgumentError, by != 0, "arange: the step is 0");
  WEFT_CHECK(ArgumentError, std::isfinite(from) && std::isfinite(to) && std::isfinite(by),
             "arange: from {} to {} in steps of {} is not finite", from, to, by);
  WEFT_CHECK(ArgumentError, (by > 0) == (to >= from) || to == from,
             "arange: steps of {} do not lead from {} to {}", by, from, to);
  int64_t count = 0;
  if (!start.is_real() && !end.is_real() && !step.is_real()) {
    const int64_t distance = end.to_int() - start.to_int(), stride = step.to_int();
    count = (distance + stride - (stride > 0 ? 1 : -1)) / stride;
  } else {
    count = static_cast<int64_t>(std::ceil((to - from) / by));
  }
  return dispatch_factory(OpId::arange, Attrs(ArangeAttrs{NumberAttr(start), NumberAttr(step)}),
                          {count}, options);
}

Tensor linspace(double start, double end, int64_t steps, const TensorOptions& options) {
  WEFT_CHECK(ArgumentError, steps >= 0, "linspace: {} steps; at least 0", steps);
  std::vector<double> values(static_cast<size_t>(steps));
  const double by = steps > 1 ? (end - start) / static_cast<double>(steps - 1) : 0.0;
  // From both ends, so that both are met exactly.
  for (int64_t i = 0; i < steps; ++i)
    values[static_cast<size_t>(i)] = i < (steps + 1) / 2
                                         ? start + by * static_cast<double>(i)
                                         : end - by * static_cast<double>(steps - 1 - i);
  Tensor result = from_host(values.data(), {steps}, DType::f64).to(options.device, options.dtype);
  return set_requires_grad("linspace", result, options.requires_grad);
}

Tensor eye(int64_t n, const TensorOptions& options) {
  Tensor result = zeros({n, n}, {.dtype = options.dtype, .device = options.device});
  diagonal(result).fill_(1);
  return set_requires_grad("eye", result, options.requires_grad);
}

Tensor from_blob(void* data, const Shape& shape, DType dtype, std::function<void(void*)> deleter) {
  for (const int64_t size : shape)
    WEFT_CHECK(ArgumentError, size >= 0, "from_blob: negative size in shape {}", to_string(shape));
  WEFT_CHECK(ArgumentError, data != nullptr || shape.numel() == 0,
             "from_blob: a null pointer for shape {}", to_string(shape));
  using Deleter = std::function<void(void*)>;
  const size_t bytes = static_cast<size_t>(shape.numel() * size_of(dtype));
  void (*release)(StorageImpl&) noexcept = nullptr;
  void* context = nullptr;
  if (deleter) {
    context = std::make_unique<Deleter>(std::move(deleter)).release();
    release = [](StorageImpl& impl) noexcept {
      const std::unique_ptr<Deleter> owned(static_cast<Deleter*>(impl.context));
      (*owned)(impl.data);
    };
  }
  const Storage storage = Storage::wrap(static_cast<std::byte*>(data), bytes, Device::cpu(),
                                        kBorrowed, release, context);
  return tensor_over(storage, shape, contiguous_strides(shape), 0, dtype);
}

Tensor from_host(const void* data, const Shape& shape, DType dtype, Device device) {
  Tensor result = empty_for("from_host", shape, dtype, device);
  WEFT_CHECK(ArgumentError, data != nullptr || result.numel() == 0,
             "from_host: a null pointer for shape {}", to_string(shape));
  if (result.numel() > 0) detail::backend(device).copy_from_host(result.impl(), data);
  return result;
}

Tensor rand(const Shape& shape, const TensorOptions& options) {
  WEFT_CHECK(ArgumentError, is_floating(options.dtype),
             "rand: uniform numbers need a floating-point dtype, got {}; use randint",
             name_of(options.dtype));
  const PhiloxState state = reserve_random(draws_of(shape, options.dtype == DType::f64 ? 2 : 1));
  return dispatch_factory(OpId::random_uniform, Attrs(RandomAttrs{state}), shape, options);
}

Tensor randn(const Shape& shape, const TensorOptions& options) {
  WEFT_CHECK(ArgumentError, is_floating(options.dtype),
             "randn: normal numbers need a floating-point dtype, got {}; use randint",
             name_of(options.dtype));
  const PhiloxState state = reserve_random(draws_of(shape, options.dtype == DType::f64 ? 2 : 1));
  return dispatch_factory(OpId::random_normal, Attrs(RandomAttrs{state}), shape, options);
}

Tensor randint(int64_t low, int64_t high, const Shape& shape, Device device) {
  WEFT_CHECK(ArgumentError, low < high, "randint: there is no whole number in [{}, {})", low, high);
  const PhiloxState state = reserve_random(draws_of(shape, 2));
  return dispatch_factory(OpId::random_integers, Attrs(RandomAttrs{state, low, high}), shape,
                          {.dtype = DType::i64, .device = device});
}

// Fisher and Yates' shuffle: place i takes one of the first i + 1 numbers.
Tensor randperm(int64_t n, Device device) {
  WEFT_CHECK(ArgumentError, n >= 0, "randperm: {} numbers; at least 0", n);
  const PhiloxState state = reserve_random(draws_of({n}, 4));
  std::vector<int64_t> order(static_cast<size_t>(n));
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int64_t>(i);
  for (size_t i = order.size(); i-- > 1;) {
    const kernel::PhiloxWords words = kernel::philox_at(state.seed, state.offset + i);
    const uint64_t bits = uint64_t{words.word[1]} << 32 | words.word[0];
    std::swap(order[i], order[bits % (i + 1)]);
  }
  return from_host(order.data(), {n}, DType::i64, device);
}

}  // namespace weft::inline v0
