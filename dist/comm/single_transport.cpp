// A group of one rank: nothing to wait for.
#include <atomic>
#include <cstring>
#include <mutex>
#include <utility>

#include <weft/core/base/check.hpp>
#include <weft/dist/comm/transport.hpp>

namespace weft::inline v0::dist::detail {

namespace {

class SingleTransport final : public Transport {
 public:
  explicit SingleTransport(std::string name) : name_(std::move(name)) {}

  const std::string& name() const override { return name_; }
  int rank() const override { return 0; }
  int size() const override { return 1; }

  void check_alive() override {
    if (aborted_.load(std::memory_order_acquire)) throw CommError(reason_);
  }
  void barrier() override { check_alive(); }
  void all_reduce(const Call&, std::byte*) override { check_alive(); }
  void all_gather(const Call& call, const std::byte* in, std::byte* out) override {
    copy(call, in, out);
  }
  void reduce_scatter(const Call& call, const std::byte* in, std::byte* out) override {
    copy(call, in, out);
  }
  void broadcast(const Call&, std::byte*) override { check_alive(); }
  void gather(const Call& call, const std::byte* in, std::byte* out) override {
    copy(call, in, out);
  }
  void scatter(const Call& call, const std::byte* in, std::byte* out) override {
    copy(call, in, out);
  }
  void all_to_all(const Call& call, const std::byte* in, std::byte* out) override {
    copy(call, in, out);
  }
  // The group has checked that the peer is another rank, of which there is none.
  void send(const Call&, const std::byte*) override { check_alive(); }
  void recv(const Call&, std::byte*) override { check_alive(); }

  Storage allocate_shared(size_t bytes) override {
    check_alive();
    return Storage::allocate(bytes, Device::cpu(), "allocate_shared");
  }
  std::unique_ptr<Transport> split(int, const std::vector<int>&) override {
    return make_single_transport(name_);
  }
  void abort(const std::string& reason) noexcept override {
    const std::lock_guard lock(mutex_);
    if (aborted_.load(std::memory_order_relaxed)) return;
    reason_ = reason;  // of the first, and no other: it is read without the lock
    aborted_.store(true, std::memory_order_release);
  }
  void set_timeout(double) override {}  // it waits for nobody

 private:
  void copy(const Call& call, const std::byte* in, std::byte* out) {
    check_alive();
    std::memcpy(out, in, static_cast<size_t>(call.shape.numel() * size_of(call.dtype)));
  }

  std::string name_, reason_;
  std::mutex mutex_;  ///< any thread may abort
  std::atomic<bool> aborted_ = false;
};

}  // namespace

std::unique_ptr<Transport> make_single_transport(const std::string& name) {
  return std::make_unique<SingleTransport>(name);
}

}  // namespace weft::inline v0::dist::detail
