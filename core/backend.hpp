// What a device has to offer. Not for users: they see Device, Stream and the memory figures.
#pragma once

#include <cstddef>

#include <weft/core/memory.hpp>
#include <weft/core/op.hpp>
#include <weft/core/stream.hpp>

namespace weft::inline v0::detail {

/// A device's memory, streams and kernel launches. One instance per device, never destroyed.
class Backend {
 public:
  virtual ~Backend();

  /// A storage of `bytes`; OutOfMemory names `op` and the figures.
  virtual Storage allocate(size_t bytes, const char* op) = 0;
  virtual MemoryStats stats() const = 0;
  virtual void reset_peak() = 0;
  virtual void set_limit(int64_t bytes) = 0;
  virtual void trim() = 0;
  /// See Storage::used_on.
  virtual void used_on(const StorageImpl& storage, const Stream& stream) = 0;

  /// Runs or queues a kernel. Inputs and outputs are copied where it is queued.
  virtual void launch(KernelFn kernel, const Attrs& attrs, Inputs inputs, Outputs outputs) = 0;
  /// Copies packed elements; the host side is ready when the call returns.
  virtual void copy_from_host(TensorRef destination, const void* source) = 0;
  virtual void copy_to_host(void* destination, TensorRef source) = 0;

  virtual Stream& stream(int index) = 0;
  virtual Stream& current_stream() = 0;
  /// Returns the one that was current.
  virtual Stream& set_current_stream(Stream& stream) = 0;
  virtual void synchronize() = 0;
};

/// The back end of `device`. Throws DeviceError where it has none, with the reason.
Backend& backend(Device device);

Backend& cpu_backend();
Backend& meta_backend();
Backend& sim_backend(int index);

}  // namespace weft::inline v0::detail
