#include <gloo/allreduce.h>
#include <gloo/barrier.h>
#include <gloo/math.h>
#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/store.h>
#include <gloo/transport/tcp/device.h>

#include <string>
#include <vector>

#include <weft/bench/comm_peer.hpp>

namespace weft::bench {

namespace {

/// gloo's view of our store.
class StoreForGloo : public gloo::rendezvous::Store {
 public:
  explicit StoreForGloo(dist::Store& store) : store_(store) {}
  void set(const std::string& key, const std::vector<char>& data) override {
    store_.set("gloo/" + key, {data.data(), data.size()});
  }
  std::vector<char> get(const std::string& key) override {
    const std::string value = store_.get("gloo/" + key);
    return {value.begin(), value.end()};
  }
  void wait(const std::vector<std::string>& keys) override {
    for (const std::string& key : keys) store_.wait({"gloo/" + key});
  }
  void wait(const std::vector<std::string>& keys, const std::chrono::milliseconds&) override {
    wait(keys);
  }

 private:
  dist::Store& store_;
};

// Where two ranks exchange everything at once (bcube) stops being faster than the ring.
constexpr size_t kRingFrom = 4 << 20;

}  // namespace

struct RawGloo::Impl {
  std::shared_ptr<gloo::rendezvous::Context> context;
};

RawGloo::RawGloo(dist::Store& store, int rank, int size) : impl_(std::make_unique<Impl>()) {
  gloo::transport::tcp::attr address;
  address.hostname = "127.0.0.1";
  auto device = gloo::transport::tcp::CreateDevice(address);
  impl_->context = std::make_shared<gloo::rendezvous::Context>(rank, size);
  StoreForGloo bridge(store);
  impl_->context->connectFullMesh(bridge, device);
}

RawGloo::~RawGloo() = default;

void RawGloo::all_reduce(float* data, size_t count) {
  gloo::AllreduceOptions options(impl_->context);
  options.setOutput(data, count);
  options.setReduceFunction(
      static_cast<void (*)(void*, const void*, const void*, size_t)>(&gloo::sum<float>));
  options.setAlgorithm(count * sizeof(float) >= kRingFrom
                           ? gloo::AllreduceOptions::Algorithm::RING
                           : gloo::AllreduceOptions::Algorithm::BCUBE);
  gloo::allreduce(options);
}

void RawGloo::barrier() {
  gloo::BarrierOptions options(impl_->context);
  gloo::barrier(options);
}

bool RawGloo::is_built() { return true; }

}  // namespace weft::bench
