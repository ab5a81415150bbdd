// A stream of a sim device: a thread that runs what was queued, later.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

#include <weft/core/stream.hpp>

namespace weft::inline v0::detail {

class SimStream final : public Stream {
 public:
  SimStream(Device device, int index);
  ~SimStream() override;

  /// Queues work. What it throws comes out of the next call on this stream, once.
  void push(std::function<void()> task);

  void synchronize() override;
  uint64_t record_event() override;
  bool event_done(uint64_t event) const override;
  void wait_event(Stream& other, uint64_t event) override;

  /// Ends the thread behind the queued work; later tasks run in the caller.
  void stop();

 private:
  void run();
  void wait_done(uint64_t event);
  void rethrow_locked(std::unique_lock<std::mutex>& lock);

  mutable std::mutex mutex_;
  std::condition_variable queued_, finished_;
  std::deque<std::function<void()>> tasks_;
  uint64_t pushed_ = 0, done_ = 0;
  bool stopping_ = false;
  std::exception_ptr failure_;
  std::thread thread_;
};

}  // namespace weft::inline v0::detail
