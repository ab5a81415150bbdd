// A queue of work on a device, and the events that mark places in it.
#pragma once

#include <cstdint>

#include <weft/core/device.hpp>

namespace weft::inline v0 {

/// A queue of work on one device, in order. The CPU has one stream that is always done.
/// Streams are owned by the device's back end and live as long as the process.
class WEFT_API Stream {
 public:
  explicit Stream(Device device, int index) : device_(device), index_(index) {}
  virtual ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  Device device() const { return device_; }
  int index() const { return index_; }

  /// Waits until everything queued so far is done; throws what a kernel threw.
  virtual void synchronize() = 0;
  /// A mark behind everything queued so far; rising numbers.
  virtual uint64_t record_event() = 0;
  virtual bool event_done(uint64_t event) const = 0;
  /// Work queued later on this stream starts only behind `event` of `other`.
  virtual void wait_event(Stream& other, uint64_t event) = 0;

 private:
  Device device_;
  int index_;
};

/// The stream that ops on `device` use in this thread. Throws DeviceError for meta.
WEFT_API Stream& current_stream(Device device);

/// Stream number `index` of `device`; 0 is the default one. Throws DeviceError for a missing
/// device.
WEFT_API Stream& stream(Device device, int index);

/// Makes `stream` the current one of its device in this thread for the guard's life.
class WEFT_API StreamGuard {
 public:
  explicit StreamGuard(Stream& stream);
  ~StreamGuard();
  StreamGuard(const StreamGuard&) = delete;
  StreamGuard& operator=(const StreamGuard&) = delete;

 private:
  Stream* previous_;
  Device device_;
};

/// Waits for all work on `device`.
WEFT_API void synchronize(Device device);

}  // namespace weft::inline v0
