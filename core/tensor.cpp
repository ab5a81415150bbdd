#include <weft/core/tensor.hpp>

#include <cstring>
#include <new>

#include <weft/core/backend.hpp>
#include <weft/core/base/check.hpp>
#include <weft/core/ops.hpp>
#include <weft/core/pool.hpp>

namespace weft::inline v0 {

GradMeta::~GradMeta() = default;

void TensorImpl::destroy(TensorImpl* impl) noexcept {
  if (GraphNode* node = impl->node)
    if (node->references.fetch_sub(1, std::memory_order_acq_rel) == 1) node->destroy(node);
  delete impl->grad_meta;
  impl->~TensorImpl();
  detail::pool_free(impl, sizeof(TensorImpl));
}

namespace {

TensorImpl* make_impl(const Shape& shape, DType dtype) {
  static_assert(sizeof(TensorImpl) <= detail::kPoolLimit);
  auto* impl = ::new (detail::pool_allocate(sizeof(TensorImpl))) TensorImpl;
  impl->shape = shape;
  impl->dtype = dtype;
  impl->numel = shape.numel();
  return impl;
}

/// As contiguous_strides, in place: a list that was just written number by number cannot be read as
/// a whole without a stall, and every new tensor would do so.
void fill_contiguous_strides(TensorImpl& impl) {
  impl.strides = impl.shape;
  int64_t step = 1;
  for (int i = impl.shape.rank() - 1; i >= 0; --i) {
    impl.strides[i] = step;
    step *= impl.shape[i] > 1 ? impl.shape[i] : 1;
  }
}

bool is_packed(const Shape& shape, const Strides& strides) {
  int64_t expected = 1;
  for (int i = shape.rank() - 1; i >= 0; --i) {
    if (shape[i] == 0) return true;
    if (shape[i] == 1) continue;
    if (strides[i] != expected) return false;
    expected *= shape[i];
  }
  return true;
}

void check_sizes(const char* op, const Shape& shape, DType dtype) {
  int64_t bytes = size_of(dtype);
  for (const int64_t size : shape) {
    WEFT_CHECK(ArgumentError, size >= 0, "{}: negative size in shape {}", op, to_string(shape));
    WEFT_CHECK(ArgumentError, !__builtin_mul_overflow(bytes, size, &bytes),
               "{}: shape {} of {} has more bytes than an address has", op, to_string(shape),
               name_of(dtype));
  }
}

}  // namespace

Tensor empty_for(const char* op, const Shape& shape, DType dtype, Device device) {
  int64_t numel = 1;
  bool odd = false;
  for (const int64_t size : shape) odd |= size < 0 || __builtin_mul_overflow(numel, size, &numel);
  if (odd || numel > (int64_t{1} << 58)) [[unlikely]]
    check_sizes(op, shape, dtype);
  Storage storage = Storage::allocate(static_cast<size_t>(numel * size_of(dtype)), device, op);
  TensorImpl* impl = make_impl(shape, dtype);
  fill_contiguous_strides(*impl);
  impl->device = device;
  impl->data = storage->data;
  impl->storage = std::move(storage);
  return Tensor(impl);
}

Tensor tensor_over(const Storage& storage, const Shape& shape, const Strides& strides,
                   int64_t offset, DType dtype) {
  TensorImpl* impl = make_impl(shape, dtype);
  impl->strides = strides;
  impl->contiguous = is_packed(shape, strides);
  impl->device = storage->device;
  impl->storage = storage;
  impl->checks_residency = (storage->flags & kEvictable) != 0;
  impl->data = storage->data == nullptr ? nullptr : storage->data + offset * size_of(dtype);
  impl->storage_offset = offset;
  return Tensor(impl);
}

namespace detail {

void replace_contents(Tensor& target, const Tensor& source) {
  TensorImpl* to = target.checked();
  const TensorImpl* from = source.checked();
  WEFT_CHECK(ArgumentError, to->is_leaf(),
             "replace_contents: the tensor of shape {} is the result of an op; only leaves can be "
             "given other contents",
             to_string(to->shape));
  const Tensor grad = target.grad();
  const bool fits = grad.defined() && to->shape == from->shape && to->dtype == from->dtype &&
                    to->device == from->device;
  if (grad.defined() && !fits) target.set_grad(Tensor());
  const uint32_t version = target.version();
  static_cast<TensorMeta&>(*to) = static_cast<const TensorMeta&>(*from);
  to->checks_residency = from->checks_residency;
  to->is_view = false;
  to->storage_offset = from->storage_offset;
  to->storage = from->storage;
  // A graph that saved the old contents must notice, so the number may not repeat.
  if (to->storage->version.load(std::memory_order_relaxed) <= version)
    to->storage->version.store(version + 1, std::memory_order_relaxed);
}

}  // namespace detail

void Tensor::fail_undefined() {
  detail::fail<ArgumentError>(
      "tensor: this handle is empty (default-constructed or moved from); assign a tensor first");
}

int64_t Tensor::size(int64_t dim) const {
  const Shape& sizes = shape();
  WEFT_CHECK(ArgumentError, sizes.rank() > 0, "size: a 0-d tensor has no dim {}", dim);
  return sizes[normalize_dim("size", dim, sizes.rank())];
}

int64_t Tensor::storage_offset() const { return checked()->storage_offset; }

uint32_t Tensor::version() const {
  return checked()->storage->version.load(std::memory_order_relaxed);
}

const void* Tensor::host_data(DType expected) const {
  const TensorImpl* impl = checked();
  WEFT_CHECK(ArgumentError, impl->dtype == expected,
             "data: the tensor is {}, not {}; convert it with .to(DType::{})", name_of(impl->dtype),
             name_of(expected), name_of(expected));
  WEFT_CHECK(DeviceError, impl->device.is_cpu(),
             "data: the host cannot read a tensor on {}; copy it with .cpu()",
             to_string(impl->device));
  if (impl->checks_residency) {
    WEFT_CHECK(ArgumentError, impl->storage.is_resident(),
               "data: the storage of this {} tensor {} is evicted; pin it before use",
               name_of(impl->dtype), to_string(impl->shape));
    return impl->storage->data + impl->storage_offset * impl->item_size();
  }
  return impl->data;
}

void* Tensor::mutable_host_data(DType expected) const {
  const void* data = host_data(expected);
  WEFT_CHECK(ArgumentError, !(impl_->storage->flags & kReadOnly),
             "mutable_data: the storage is read-only (a mapped file); clone() the tensor first");
  impl_->storage->version.fetch_add(1, std::memory_order_relaxed);
  impl_->storage->writer = "mutable_data";
  return const_cast<void*>(data);
}

void Tensor::copy_to_host(void* out, DType dtype) const {
  WEFT_CHECK(ArgumentError, checked()->storage.is_resident(),
             "data: the storage of this {} tensor {} is evicted; pin it before use",
             name_of(impl_->dtype), to_string(impl_->shape));
  const Tensor packed = detach().to(dtype).contiguous();
  if (packed.numel() == 0) return;
  detail::backend(packed.device()).copy_to_host(out, packed.impl());
}

Scalar Tensor::item_scalar() const {
  WEFT_CHECK(ArgumentError, numel() == 1,
             "item: needs exactly one element; the tensor has shape {}", to_string(shape()));
  WEFT_CHECK(DeviceError, !device().is_meta(),
             "item: the {} tensor of shape {} is on meta and has no value; compute it on a device",
             name_of(dtype()), to_string(shape()));
  if (is_floating(dtype())) {
    double value = 0;
    copy_to_host(&value, DType::f64);
    return value;
  }
  int64_t value = 0;
  copy_to_host(&value, DType::i64);
  return dtype() == DType::boolean ? Scalar(value != 0) : Scalar(value);
}

Tensor Tensor::to(DType dtype) const { return to(device(), dtype); }
Tensor Tensor::to(Device device) const { return to(device, dtype()); }

}  // namespace weft::inline v0
