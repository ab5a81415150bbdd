#include <weft/core/backend.hpp>

#include <atomic>
#include <memory>

#include <weft/core/base/check.hpp>
#include <weft/core/cpu/allocator.hpp>
#include <weft/core/cpu/level.hpp>

namespace weft::inline v0 {

Stream::~Stream() = default;

namespace detail {

Backend::~Backend() = default;

namespace {

/// Work on the CPU is done when its call returns.
class CpuStream final : public Stream {
 public:
  CpuStream() : Stream(Device::cpu(), 0) {}
  void synchronize() override {}
  uint64_t record_event() override { return 0; }
  bool event_done(uint64_t) const override { return true; }
  void wait_event(Stream& other, uint64_t) override { other.synchronize(); }
};

class CpuBackend final : public Backend {
 public:
  Storage allocate(size_t bytes, const char* op) override {
    return Storage::allocate(bytes, Device::cpu(), op);
  }
  MemoryStats stats() const override { return cpu_allocator().stats(); }
  void reset_peak() override { cpu_allocator().reset_peak(); }
  void set_limit(int64_t bytes) override { cpu_allocator().set_limit(bytes); }
  void trim() override { cpu_allocator().trim(); }
  void used_on(const StorageImpl&, const Stream&) override {}

  void launch(KernelFn kernel, const Attrs& attrs, Inputs inputs, Outputs outputs) override {
    Context context(Device::cpu(), 0, nullptr, deterministic());
    kernel(context, attrs, inputs, outputs);
  }
  void copy_from_host(TensorRef destination, const void* source) override {
    std::memcpy(destination->data, source,
                static_cast<size_t>(destination->numel * destination->item_size()));
  }
  void copy_to_host(void* destination, TensorRef source) override {
    std::memcpy(destination, source->data,
                static_cast<size_t>(source->numel * source->item_size()));
  }

  Stream& stream(int index) override {
    WEFT_CHECK(DeviceError, index == 0, "stream: cpu has one stream; there is no number {}", index);
    return stream_;
  }
  Stream& current_stream() override { return stream_; }
  Stream& set_current_stream(Stream&) override { return stream_; }
  void synchronize() override {}

 private:
  CpuStream stream_;
};

/// Counts the bytes that tensors would take.
class MetaBackend final : public Backend {
 public:
  Storage allocate(size_t bytes, const char*) override {
    const int64_t now =
        allocated_.fetch_add(static_cast<int64_t>(bytes)) + static_cast<int64_t>(bytes);
    int64_t peak = peak_.load();
    while (now > peak && !peak_.compare_exchange_weak(peak, now)) {
    }
    allocations_.fetch_add(1);
    return Storage::wrap(
        nullptr, bytes, Device::meta(), 0,
        [](StorageImpl& impl) noexcept {
          static_cast<MetaBackend*>(impl.context)
              ->allocated_.fetch_sub(static_cast<int64_t>(impl.bytes));
        },
        this);
  }
  MemoryStats stats() const override {
    MemoryStats figures;
    figures.allocated = allocated_.load();
    figures.peak_allocated = peak_.load();
    figures.allocations = allocations_.load();
    return figures;
  }
  void reset_peak() override { peak_.store(allocated_.load()); }
  void set_limit(int64_t) override {
    detail::fail<DeviceError>("set_memory_limit: meta has no memory that could be limited");
  }
  void trim() override {}
  void used_on(const StorageImpl&, const Stream&) override {}
  void launch(KernelFn, const Attrs&, Inputs, Outputs) override {}
  void copy_from_host(TensorRef, const void*) override {}
  void copy_to_host(void*, TensorRef) override {
    detail::fail<DeviceError>(
        "copy: a meta tensor has no values; load or initialise it on a device");
  }
  Stream& stream(int) override { fail_stream(); }
  Stream& current_stream() override { fail_stream(); }
  Stream& set_current_stream(Stream&) override { fail_stream(); }
  void synchronize() override {}

 private:
  [[noreturn]] static void fail_stream() {
    detail::fail<DeviceError>("stream: meta has no streams, as nothing runs on it");
  }
  std::atomic<int64_t> allocated_{0}, peak_{0}, allocations_{0};
};

}  // namespace

Backend& cpu_backend() {
  static Backend* instance = std::make_unique<CpuBackend>().release();
  return *instance;
}

Backend& meta_backend() {
  static Backend* instance = std::make_unique<MetaBackend>().release();
  return *instance;
}

Backend& backend(Device device) {
  switch (device.type) {
    case DeviceType::cpu: return cpu_backend();
    case DeviceType::meta: return meta_backend();
    case DeviceType::sim: return sim_backend(device.index);
    case DeviceType::cuda: break;
  }
  fail<DeviceError>("device: {} cannot be used: this build of weft has no CUDA support",
                    to_string(device));
}

}  // namespace detail

Stream& current_stream(Device device) { return detail::backend(device).current_stream(); }
Stream& stream(Device device, int index) { return detail::backend(device).stream(index); }
void synchronize(Device device) { detail::backend(device).synchronize(); }

StreamGuard::StreamGuard(Stream& stream)
    : previous_(&detail::backend(stream.device()).set_current_stream(stream)),
      device_(stream.device()) {}
StreamGuard::~StreamGuard() { detail::backend(device_).set_current_stream(*previous_); }

MemoryStats memory_stats(Device device) { return detail::backend(device).stats(); }
void reset_peak_memory_stats(Device device) { detail::backend(device).reset_peak(); }
void set_memory_limit(int64_t bytes, Device device) { detail::backend(device).set_limit(bytes); }
void empty_cache(Device device) { detail::backend(device).trim(); }

}  // namespace weft::inline v0
