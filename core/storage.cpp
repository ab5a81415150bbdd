#include <weft/core/storage.hpp>

#include <new>

#include <weft/core/backend.hpp>
#include <weft/core/base/check.hpp>
#include <weft/core/cpu/allocator.hpp>
#include <weft/core/pool.hpp>

namespace weft::inline v0 {

using detail::pool_allocate;
using detail::pool_free;

namespace {

// Small CPU blocks live behind their impl in one piece of the pool: one allocation instead of two.
constexpr size_t kHeader = (sizeof(StorageImpl) + 63) & ~size_t{63};
constexpr size_t kInlineLimit = detail::kPoolLimit - kHeader;

size_t pooled_bytes(const StorageImpl& impl) {
  return impl.context == &impl ? kHeader + impl.bytes : sizeof(StorageImpl);
}

void release_inline(StorageImpl& impl) noexcept {
  detail::count_small_block(-static_cast<int64_t>(impl.bytes));
}

void release_cached(StorageImpl& impl) noexcept {
  detail::cpu_allocator().free(impl.data, impl.bytes);
}

void release_evictable(StorageImpl& impl) noexcept {
  if (impl.data != nullptr) impl.residency->evict(impl.data, impl.bytes);
}

StorageImpl* make_impl(size_t pool_bytes, size_t bytes, Device device) {
  auto* impl = ::new (pool_allocate(pool_bytes)) StorageImpl;
  impl->bytes = bytes;
  impl->device = device;
  return impl;
}

Storage allocate_cpu(size_t bytes, const char* op) {
  if (bytes <= kInlineLimit) {
    StorageImpl* impl = make_impl(kHeader + bytes, bytes, Device::cpu());
    impl->data = reinterpret_cast<std::byte*>(impl) + kHeader;
    impl->context = impl;
    impl->release = release_inline;
    detail::count_small_block(static_cast<int64_t>(bytes));
    return Storage(impl);
  }
  std::byte* data = detail::cpu_allocator().allocate(bytes, op);
  StorageImpl* impl = make_impl(sizeof(StorageImpl), bytes, Device::cpu());
  impl->data = data;
  impl->release = release_cached;
  return Storage(impl);
}

}  // namespace

Residency::~Residency() = default;

Storage Storage::allocate(size_t bytes, Device device, const char* op) {
  if (device.is_cpu()) [[likely]]
    return allocate_cpu(bytes, op);
  return detail::backend(device).allocate(bytes, op);
}

Storage Storage::wrap(std::byte* data, size_t bytes, Device device, uint8_t flags,
                      void (*release)(StorageImpl&) noexcept, void* context) {
  StorageImpl* impl = make_impl(sizeof(StorageImpl), bytes, device);
  impl->data = data;
  impl->flags = flags;
  impl->release = release;
  impl->context = context;
  return Storage(impl);
}

Storage Storage::evictable(size_t bytes, Device device, Residency& residency) {
  Storage storage = wrap(nullptr, bytes, device, kEvictable, release_evictable, nullptr);
  storage->residency = &residency;
  return storage;
}

void Storage::used_on(const Stream& stream) const {
  if (impl_->device.is_cpu() || impl_->device.is_meta()) return;
  detail::backend(impl_->device).used_on(*impl_, stream);
}

void Storage::pin() const {
  if (!(impl_->flags & kEvictable)) return;
  if (impl_->data == nullptr) impl_->data = impl_->residency->materialise(impl_->bytes);
  impl_->pins.fetch_add(1, std::memory_order_relaxed);
}

void Storage::unpin() const noexcept {
  if (impl_->flags & kEvictable) impl_->pins.fetch_sub(1, std::memory_order_relaxed);
}

void Storage::evict() const {
  if (!(impl_->flags & kEvictable) || impl_->data == nullptr) return;
  const uint32_t pins = impl_->pins.load(std::memory_order_relaxed);
  WEFT_CHECK(ArgumentError, pins == 0,
             "evict: the storage of {} bytes is pinned {} times; unpin it first", impl_->bytes,
             pins);
  impl_->residency->evict(impl_->data, impl_->bytes);
  impl_->data = nullptr;
}

void Storage::drop(StorageImpl* impl) noexcept {
  if (impl->references.load(std::memory_order_acquire) != 1 &&
      impl->references.fetch_sub(1, std::memory_order_acq_rel) != 1)
    return;
  const size_t bytes = pooled_bytes(*impl);
  if (impl->release != nullptr) impl->release(*impl);
  impl->~StorageImpl();
  pool_free(impl, bytes);
}

}  // namespace weft::inline v0
