#include <weft/core/sim/stream.hpp>

#include <pthread.h>

#include <string>
#include <utility>

namespace weft::inline v0::detail {

SimStream::SimStream(Device device, int index) : Stream(device, index), thread_([this] { run(); }) {
  const std::string name = "weft-sim" + std::to_string(device.index) + "." + std::to_string(index);
  pthread_setname_np(thread_.native_handle(), name.substr(0, 15).c_str());
}

SimStream::~SimStream() { stop(); }

void SimStream::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  queued_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void SimStream::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    queued_.wait(lock, [this] { return stopping_ || !tasks_.empty(); });
    if (tasks_.empty()) return;
    std::function<void()> task = std::move(tasks_.front());
    tasks_.pop_front();
    lock.unlock();
    std::exception_ptr failure;
    try {
      task();
    } catch (...) {
      failure = std::current_exception();  // kept for the caller: see push()
    }
    task = nullptr;
    lock.lock();
    if (failure && !failure_) failure_ = failure;
    ++done_;
    finished_.notify_all();
  }
}

void SimStream::rethrow_locked(std::unique_lock<std::mutex>& lock) {
  if (!failure_) return;
  const std::exception_ptr failure = std::exchange(failure_, nullptr);
  lock.unlock();
  std::rethrow_exception(failure);
}

void SimStream::push(std::function<void()> task) {
  std::unique_lock lock(mutex_);
  rethrow_locked(lock);
  if (stopping_) {  // the process is ending
    lock.unlock();
    task();
    return;
  }
  ++pushed_;
  tasks_.push_back(std::move(task));
  queued_.notify_one();
}

void SimStream::synchronize() {
  std::unique_lock lock(mutex_);
  const uint64_t target = pushed_;
  finished_.wait(lock, [&] { return done_ >= target; });
  rethrow_locked(lock);
}

uint64_t SimStream::record_event() {
  const std::lock_guard lock(mutex_);
  return pushed_;
}

bool SimStream::event_done(uint64_t event) const {
  const std::lock_guard lock(mutex_);
  return done_ >= event;
}

void SimStream::wait_done(uint64_t event) {
  std::unique_lock lock(mutex_);
  finished_.wait(lock, [&] { return done_ >= event; });
}

void SimStream::wait_event(Stream& other, uint64_t event) {
  if (other.device().type != DeviceType::sim) return other.synchronize();
  auto& source = static_cast<SimStream&>(other);
  push([&source, event] { source.wait_done(event); });
}

}  // namespace weft::inline v0::detail
