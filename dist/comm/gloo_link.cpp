// Links over TCP, by gloo: its connections and its messages, under our collectives.
//
// gloo's own collectives are not used: they add up in an order that differs from rank to rank's
// place, know no bf16, and cannot be interrupted. Its messages between two processes can be.
#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/store.h>
#include <gloo/transport/tcp/device.h>
#include <gloo/transport/unbound_buffer.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include <weft/core/base/check.hpp>
#include <weft/dist/comm/cross_link.hpp>
#include <weft/dist/comm/signal_guard.hpp>

namespace weft::inline v0::dist::detail {

using weft::detail::fail;

namespace {

using Buffer = gloo::transport::UnboundBuffer;

constexpr auto kSlice = std::chrono::milliseconds(20);
// As good as none: where gloo's own limit passes, it closes every connection.
constexpr auto kNoLimit = std::chrono::hours(24 * 365);
constexpr double kCheckEvery = 0.25;  // seconds between checks while others are missing
constexpr int kTries = 3;             // to connect

/// gloo's waits have no end but a timeout that closes every connection; this thread interrupts them
/// every slice, so that the waiting thread can look around and wait on.
class Ticker {
 public:
  Ticker() {
    const SignalGuard guard;
    thread_ = std::thread([this] { run(); });
    pthread_setname_np(thread_.native_handle(), "weft-tick");
  }
  ~Ticker() {
    {
      const std::lock_guard lock(mutex_);
      ends_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  /// While it lives, waits in `buffer` are interrupted.
  class Watch {
   public:
    Watch(Ticker& ticker, Buffer& buffer, bool sends) : ticker_(ticker), entry_{&buffer, sends} {
      const std::lock_guard lock(ticker_.mutex_);
      ticker_.entries_.push_back(entry_);
    }
    ~Watch() {
      const std::lock_guard lock(ticker_.mutex_);
      std::erase(ticker_.entries_, entry_);
    }
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;

   private:
    Ticker& ticker_;
    std::pair<Buffer*, bool> entry_;
  };

 private:
  void run() {
    std::unique_lock lock(mutex_);
    while (!changed_.wait_for(lock, kSlice, [this] { return ends_; }))
      for (const auto& [buffer, sends] : entries_)
        sends ? buffer->abortWaitSend() : buffer->abortWaitRecv();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::pair<Buffer*, bool>> entries_;
  bool ends_ = false;
  std::thread thread_;
};

/// While it lives, a broken connection is an error in this thread and not SIGPIPE, which would end
/// the program: gloo writes without MSG_NOSIGNAL. The program's own disposition stays as it is.
class PipeGuard {
 public:
  PipeGuard() {
    sigemptyset(&pipe_);
    sigaddset(&pipe_, SIGPIPE);
    was_pending_ = is_pending();
    pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
  }
  ~PipeGuard() {
    const timespec at_once{};
    while (!was_pending_ && is_pending() && sigtimedwait(&pipe_, nullptr, &at_once) == SIGPIPE) {
    }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  PipeGuard(const PipeGuard&) = delete;
  PipeGuard& operator=(const PipeGuard&) = delete;

 private:
  static bool is_pending() {
    sigset_t pending;
    return sigpending(&pending) == 0 && sigismember(&pending, SIGPIPE) == 1;
  }
  sigset_t pipe_{}, before_{};
  bool was_pending_ = false;
};

/// What all links of a process share: gloo's device, which has a thread, and the ticker.
struct Engine {
  std::shared_ptr<gloo::transport::Device> device;
  Ticker ticker;
};

class GlooTransfer final : public Transfer {
 public:
  GlooTransfer(Engine& engine, std::unique_ptr<Buffer> buffer, int peer, bool sends)
      : engine_(engine), buffer_(std::move(buffer)), peer_(peer), sends_(sends) {}

  bool wait() override {
    if (is_done_) return true;
    const Ticker::Watch watch(engine_.ticker, *buffer_, sends_);
    try {
      is_done_ = wait_in_gloo();
    } catch (const std::exception&) {
      // gloo looks for trouble before it looks for the message, which may have come just before the
      // peer went. Asked again, it hands that out first.
      is_done_ = wait_again();
    }
    return is_done_;
  }

 private:
  bool wait_in_gloo() {
    return sends_ ? buffer_->waitSend(nullptr, kNoLimit) : buffer_->waitRecv(nullptr, kNoLimit);
  }
  bool wait_again() {
    try {
      return wait_in_gloo();
    } catch (const std::exception& error) {
      throw LinkBroken(peer_, error.what());
    }
  }

  Engine& engine_;
  std::unique_ptr<Buffer> buffer_;
  int peer_;
  bool sends_, is_done_ = false;
};

class GlooLink final : public CrossLink {
 public:
  GlooLink(std::shared_ptr<Engine> engine, std::shared_ptr<gloo::rendezvous::Context> context)
      : engine_(std::move(engine)), context_(std::move(context)) {}

  int rank() const override { return context_->rank; }
  int size() const override { return context_->size; }

  std::unique_ptr<Transfer> send(int peer, uint64_t slot, const std::byte* data,
                                 size_t bytes) override {
    // gloo has one kind of buffer for both ways.
    return start(peer, const_cast<std::byte*>(data), bytes, true,
                 [&](Buffer& buffer) { buffer.send(peer, slot, 0, bytes); });
  }
  std::unique_ptr<Transfer> receive(int peer, uint64_t slot, std::byte* data,
                                    size_t bytes) override {
    return start(peer, data, bytes, false,
                 [&](Buffer& buffer) { buffer.recv(peer, slot, 0, bytes); });
  }

  void close() noexcept override {
    const std::lock_guard lock(mutex_);
    if (std::exchange(closed_, true)) return;
    for (int peer = 0; peer < size(); ++peer)
      if (peer != rank()) context_->getPair(peer)->close();
  }

 private:
  template <class Begin>
  std::unique_ptr<Transfer> start(int peer, std::byte* data, size_t bytes, bool sends,
                                  const Begin& begin) {
    const PipeGuard guard;
    try {
      auto buffer = context_->createUnboundBuffer(data, bytes);
      begin(*buffer);
      return std::make_unique<GlooTransfer>(*engine_, std::move(buffer), peer, sends);
    } catch (const std::exception& error) {
      throw LinkBroken(peer, error.what());
    }
  }

  std::shared_ptr<Engine> engine_;
  std::shared_ptr<gloo::rendezvous::Context> context_;
  std::mutex mutex_;
  bool closed_ = false;
};

/// gloo's view of our store.
class StoreForGloo final : public gloo::rendezvous::Store {
 public:
  StoreForGloo(dist::Store& store, std::string prefix, TimePoint deadline,
               const std::function<void()>& check)
      : store_(store), prefix_(std::move(prefix)), deadline_(deadline), check_(check) {}

  void set(const std::string& key, const std::vector<char>& data) override {
    store_.set(prefix_ + key, {data.data(), data.size()});
  }
  std::vector<char> get(const std::string& key) override {
    const std::string value = wait_for(key, true);
    return {value.begin(), value.end()};
  }
  void wait(const std::vector<std::string>& keys) override {
    for (const std::string& key : keys) wait_for(key, true);
  }
  void wait(const std::vector<std::string>& keys, const std::chrono::milliseconds&) override {
    wait(keys);
  }

  /// What all processes have come to in this attempt.
  std::string verdict() { return wait_for(kVerdict, false); }

  /// The first word on it counts.
  void decide(const std::string& verdict) { store_.compare_set(prefix_ + kVerdict, "", verdict); }

  int count_connected() { return static_cast<int>(store_.add(prefix_ + "connected", 1)); }

 private:
  static constexpr const char* kVerdict = "verdict";

  /// The value of `key`, with a look around now and then. `unless_over`: throws where the attempt
  /// has failed elsewhere, so that a process that could not even begin is not waited for.
  std::string wait_for(const std::string& key, bool unless_over) {
    while (true) {
      check_();
      try {
        std::vector<std::string> keys = {prefix_ + key};
        if (unless_over) keys.push_back(prefix_ + kVerdict);
        if (store_.wait_any(keys, kCheckEvery) == 0) return store_.get(prefix_ + key, kCheckEvery);
        throw std::runtime_error("another process could not connect");
      } catch (const TimeoutError&) {
        if (Clock::now() > deadline_) throw;
      }
    }
  }

  dist::Store& store_;
  std::string prefix_;
  TimePoint deadline_;
  const std::function<void()>& check_;
};

class GlooConnector final : public Connector {
 public:
  GlooConnector(std::shared_ptr<Store> store, const std::string& address,
                const std::string& interface)
      : store_(std::move(store)),
        where_(interface.empty() ? "at " + address : "on interface " + interface),
        engine_(std::make_shared<Engine>()) {
    gloo::transport::tcp::attr attributes;
    (interface.empty() ? attributes.hostname : attributes.iface) =
        interface.empty() ? address : interface;
    const SignalGuard guard;  // for the device's thread
    try {
      engine_->device = gloo::transport::tcp::CreateDevice(attributes);
    } catch (const std::exception& error) {
      fail<ArgumentError>("gloo: cannot use {} '{}' (WEFT_SOCKET_IFNAME sets the interface): {}",
                          interface.empty() ? "address" : "interface",
                          interface.empty() ? address : interface, first_line(error.what()));
    }
  }

  std::unique_ptr<CrossLink> connect(const std::string& name, int rank, int size,
                                     TimePoint deadline,
                                     const std::function<void()>& check) override {
    const PipeGuard guard;
    std::string why;
    for (int attempt = 0; attempt < kTries; ++attempt) {
      const std::string prefix = fmt::format("gloo/{}/{}/", name, attempt);
      StoreForGloo store(*store_, prefix, deadline, check);
      auto context = std::make_shared<gloo::rendezvous::Context>(rank, size);
      // gloo waits for five times as long as it is told to.
      const double patience = std::min(10.0, std::max(1.0, -seconds_since(deadline)));
      context->setTimeout(std::chrono::milliseconds(static_cast<int64_t>(patience * 200)));
      why.clear();
      try {
        context->connectFullMesh(store, engine_->device);
      } catch (const CommError& error) {
        throw;  // from the store or the check: nobody else would come either
      } catch (const std::exception& error) {
        why = first_line(error.what());
      }
      if (agree(store, size, why)) return std::make_unique<GlooLink>(engine_, std::move(context));
    }
    fail<CommError>("group '{}': the hosts cannot connect to each other: {}", name, why);
  }

 private:
  /// Whether all have connected; else `why` is what one of those says that have not. A connection
  /// is of use only where both ends have it, so all try again together.
  bool agree(StoreForGloo& store, int size, std::string& why) const {
    if (!why.empty())
      store.decide(fmt::format("the process {}: {}", where_, why));
    else if (store.count_connected() == size)
      store.decide("yes");
    const std::string verdict = store.verdict();
    if (verdict != "yes") why = verdict;
    return verdict == "yes";
  }

  static std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

  std::shared_ptr<Store> store_;
  std::string where_;  ///< this process, for the others
  std::shared_ptr<Engine> engine_;
};

}  // namespace

void require_gloo() {}

std::shared_ptr<Connector> make_gloo_connector(std::shared_ptr<Store> store,
                                               const std::string& address,
                                               const std::string& interface) {
  return std::make_shared<GlooConnector>(std::move(store), address, interface);
}

}  // namespace weft::inline v0::dist::detail
