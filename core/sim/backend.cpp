// The sim device: what a GPU would break shows here, on machines that have none. Its memory cannot
// be touched by the host, its kernels (the CPU's) run later on threads of their own.
#include <array>
#include <map>
#include <memory>
#include <mutex>

#include <weft/core/backend.hpp>
#include <weft/core/base/check.hpp>
#include <weft/core/sim/arena.hpp>
#include <weft/core/sim/stream.hpp>

namespace weft::inline v0::detail {

namespace {

constexpr int kMostDevices = 8;
constexpr int kMostStreams = 16;
constexpr size_t kArenaBytes = size_t{16} << 30;  // address space; memory is taken when touched

constinit thread_local std::array<Stream*, kMostDevices> current_streams = {};

/// A kernel call with everything that it needs later.
struct QueuedCall {
  KernelFn kernel;
  Attrs attrs;
  std::vector<TensorMeta> metas;
  std::vector<TensorRef> inputs, outputs;
  bool deterministic;

  QueuedCall(KernelFn fn, const Attrs& given, Inputs in, Outputs out)
      : kernel(fn), attrs(given), deterministic(detail::deterministic()) {
    metas.reserve(in.size() + out.size());
    const auto copy = [this](TensorRef ref) -> TensorRef {
      if (ref == nullptr) return nullptr;
      metas.push_back(*ref);
      return &metas.back();
    };
    for (const TensorRef ref : in) inputs.push_back(copy(ref));
    for (const TensorRef ref : out) outputs.push_back(copy(ref));
  }
};

class SimBackend final : public Backend {
 public:
  explicit SimBackend(int index) : device_(Device::sim(index)), arena_(kArenaBytes) {}

  Storage allocate(size_t bytes, const char* op) override {
    Stream& now = current_stream();
    std::unique_ptr<SimBlock> block = arena_.take(bytes, now);
    if (!block) {
      synchronize();  // blocks that other streams were using are free afterwards
      block = arena_.take(bytes, now);
    }
    if (!block) fail_memory(bytes, op);
    std::byte* address = arena_.address(*block);
    auto owned = std::make_unique<Owned>(Owned{this, std::move(block)});
    return Storage::wrap(address, bytes, device_, 0, release, owned.release());
  }

  MemoryStats stats() const override { return arena_.stats(); }
  void reset_peak() override { arena_.reset_peak(); }
  void set_limit(int64_t bytes) override { arena_.set_limit(bytes); }
  void trim() override {}

  void used_on(const StorageImpl& storage, const Stream& stream) override {
    WEFT_CHECK(DeviceError, stream.device() == device_,
               "used_on: the memory is on {}, the stream on {}", to_string(device_),
               to_string(stream.device()));
    if (storage.release != release) return;  // not from this allocator
    arena_.used_on(*static_cast<Owned*>(storage.context)->block, this->stream(stream.index()));
  }

  void launch(KernelFn kernel, const Attrs& attrs, Inputs inputs, Outputs outputs) override {
    auto call = std::make_shared<QueuedCall>(kernel, attrs, inputs, outputs);
    auto& queue = static_cast<SimStream&>(current_stream());
    queue.push([this, call, &queue] {
      Context context(device_, arena_.delta(), &queue, call->deterministic);
      call->kernel(context, call->attrs, call->inputs, call->outputs);
    });
  }

  void copy_from_host(TensorRef destination, const void* source) override {
    current_stream().synchronize();
    std::memcpy(destination->data + arena_.delta(), source,
                static_cast<size_t>(destination->numel * destination->item_size()));
  }
  void copy_to_host(void* destination, TensorRef source) override {
    current_stream().synchronize();
    std::memcpy(destination, source->data + arena_.delta(),
                static_cast<size_t>(source->numel * source->item_size()));
  }

  Stream& stream(int index) override {
    WEFT_CHECK(DeviceError, index >= 0 && index < kMostStreams,
               "stream: {} has streams 0 to {}, not {}", to_string(device_), kMostStreams - 1,
               index);
    const std::lock_guard lock(mutex_);
    auto& slot = streams_[static_cast<size_t>(index)];
    if (!slot) slot = std::make_unique<SimStream>(device_, index);
    return *slot;
  }
  Stream& current_stream() override {
    Stream*& slot = current_streams[static_cast<size_t>(device_.index)];
    if (slot == nullptr) slot = &stream(0);
    return *slot;
  }
  Stream& set_current_stream(Stream& stream) override {
    Stream& previous = current_stream();
    current_streams[static_cast<size_t>(device_.index)] = &stream;
    return previous;
  }
  void synchronize() override {
    for (SimStream* stream : live_streams()) stream->synchronize();
  }
  void stop() {
    for (SimStream* stream : live_streams()) stream->stop();
  }

 private:
  struct Owned {
    SimBackend* backend;
    std::unique_ptr<SimBlock> block;
  };
  static void release(StorageImpl& storage) noexcept {
    const std::unique_ptr<Owned> owned(static_cast<Owned*>(storage.context));
    owned->backend->arena_.give(std::move(owned->block));
  }

  std::vector<SimStream*> live_streams() {
    const std::lock_guard lock(mutex_);
    std::vector<SimStream*> live;
    for (auto& stream : streams_)
      if (stream) live.push_back(stream.get());
    return live;
  }

  [[noreturn]] void fail_memory(size_t bytes, const char* op) const {
    const MemoryStats figures = arena_.stats();
    fail<OutOfMemory>("{}: {} bytes cannot be had on {}: {} in use, limit {}", op, bytes,
                      to_string(device_), figures.allocated,
                      figures.limit > 0 ? figures.limit : static_cast<int64_t>(arena_.capacity()));
  }

  Device device_;
  SimArena arena_;
  std::mutex mutex_;
  std::array<std::unique_ptr<SimStream>, kMostStreams> streams_;
};

/// The devices live as long as the process, as static tensors may; their threads end before.
struct SimDevices {
  std::mutex mutex;
  std::array<SimBackend*, kMostDevices> backends = {};
  ~SimDevices() {
    for (SimBackend* backend : backends)
      if (backend != nullptr) backend->stop();
  }
};

}  // namespace

Backend& sim_backend(int index) {
  static SimDevices devices;
  WEFT_CHECK(DeviceError, index >= 0 && index < kMostDevices,
             "device: there are sim devices 0 to {}, not {}", kMostDevices - 1, index);
  const std::lock_guard lock(devices.mutex);
  SimBackend*& backend = devices.backends[static_cast<size_t>(index)];
  if (backend == nullptr) backend = std::make_unique<SimBackend>(index).release();
  return *backend;
}

}  // namespace weft::inline v0::detail
