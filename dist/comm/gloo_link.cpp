// Links over TCP, by gloo: its connections and its messages, under our collectives.
//
// gloo's own collectives are not used: they add up in an order that differs from rank to rank's
// place, know no bf16, and cannot be interrupted. Its messages between two processes can be.
#include <gloo/transport/address.h>
#include <gloo/transport/context.h>
#include <gloo/transport/pair.h>
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
  GlooLink(std::shared_ptr<Engine> engine, std::shared_ptr<gloo::transport::Context> context)
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
  std::shared_ptr<gloo::transport::Context> context_;
  std::mutex mutex_;
  bool closed_ = false;
};

/// One attempt to connect, as all its processes see it in the store.
class Attempt {
 public:
  Attempt(Store& store, std::string prefix, int size, TimePoint deadline,
          const std::function<void()>& check)
      : store_(store),
        prefix_(std::move(prefix)),
        size_(size),
        deadline_(deadline),
        check_(check) {}

  /// Waits until all have come to the end of `stage`; "yes" where it went well for all, else the
  /// first word of one for whom it did not. `problem`: this process's own, empty where it has none.
  std::string agree(const std::string& stage, const std::string& problem) {
    if (!problem.empty()) decide(stage, problem);
    if (store_.add(prefix_ + stage + "/came", 1) == size_) {
      decide(stage, "yes");
      store_.set(prefix_ + stage + "/over", "");
    }
    get(stage + "/over");
    return get(stage);
  }

  /// This process needs nothing of it any more; the last one leaves nothing of it in the store.
  void leave() {
    if (store_.add(prefix_ + "left", 1) == size_) store_.delete_prefix(prefix_);
  }

  void publish(int rank, const std::string& addresses) {
    store_.set(prefix_ + std::to_string(rank), addresses);
  }
  std::string addresses_of(int rank) { return get(std::to_string(rank)); }

 private:
  /// The first word on it counts.
  void decide(const std::string& stage, const std::string& word) {
    store_.compare_set(prefix_ + stage, "", word);
  }

  /// The value of `key` once it is there, with a look around now and then.
  std::string get(const std::string& key) {
    while (true) {
      check_();
      try {
        return store_.get(prefix_ + key, kCheckEvery);
      } catch (const TimeoutError&) {
        if (Clock::now() > deadline_) throw;
      }
    }
  }

  Store& store_;
  std::string prefix_;
  int size_;
  TimePoint deadline_;
  const std::function<void()>& check_;
};

// Note [Connecting by gloo]
// ~~~~~~~~~~~~~~~~~~~~~~~~~
// A pair of gloo's listens from its creation on; one end connects, and the other waits, with no way
// to interrupt it, until its patience ends. Where a connection is reset just when gloo's thread
// takes it up (the listener was closed before it accepted, or the other end was closed hard), gloo
// throws on that thread, which ends the program. So
//   - nobody begins to connect before all listen: the stage "listening". Where one cannot, no other
//     waits for its connection;
//   - nobody closes anything before all have come to an end, well or not: the stage "connected";
//   - pairs that are given up are destroyed, which ends their connections in order, and not closed,
//     which resets them.

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
    std::string word;
    for (int number = 0; number < kTries; ++number) {
      Attempt attempt(*store_, fmt::format("gloo/{}/{}/", name, number), size, deadline, check);
      const auto context = engine_->device->createContext(rank, size);
      // gloo waits for five times as long as it is told to.
      const double patience = std::min(10.0, std::max(1.0, -seconds_since(deadline)));
      context->setTimeout(std::chrono::milliseconds(static_cast<int64_t>(patience * 200)));
      word = try_to_connect(attempt, *context);
      attempt.leave();
      if (word == "yes") return std::make_unique<GlooLink>(engine_, context);
    }
    fail<CommError>("group '{}': the hosts cannot connect to each other: {}", name, word);
  }

 private:
  /// "yes" where all processes have connected, else what one says that has not.
  std::string try_to_connect(Attempt& attempt, gloo::transport::Context& context) const {
    std::string addresses;
    const std::string silent = problem_in([&] { addresses = listen(context); });
    if (silent.empty()) attempt.publish(context.rank, addresses);
    const std::string word = attempt.agree("listening", silent);
    if (word != "yes") return word;
    std::vector<std::string> others(static_cast<size_t>(context.size));
    for (int peer = 0; peer < context.size; ++peer)
      if (peer != context.rank) others[static_cast<size_t>(peer)] = attempt.addresses_of(peer);
    return attempt.agree("connected", problem_in([&] { connect_pairs(context, others); }));
  }

  /// What gloo says against `step`, with this process's name for the others; empty where nothing.
  template <class Step>
  std::string problem_in(const Step& step) const {
    try {
      step();
      return {};
    } catch (const std::exception& error) {
      return fmt::format("the process {}: {}", where_, first_line(error.what()));
    }
  }

  /// A pair for each of the others; their addresses, all of one length, in the order of the ranks.
  static std::string listen(gloo::transport::Context& context) {
    std::string addresses;
    for (int peer = 0; peer < context.size; ++peer) {
      if (peer == context.rank) continue;
      const std::vector<char> address = context.createPair(peer)->address().bytes();
      addresses.append(address.begin(), address.end());
    }
    return addresses;
  }

  /// Connects every pair with that of its peer; `others`: what each rank's listen() gave.
  static void connect_pairs(gloo::transport::Context& context,
                            const std::vector<std::string>& others) {
    const size_t size = others.size(), own = static_cast<size_t>(context.rank);
    for (size_t peer = 0; peer < size; ++peer) {
      if (peer == own) continue;
      const std::string& all = others[peer];
      const size_t length = all.size() / (size - 1);
      const size_t at = (own < peer ? own : own - 1) * length;
      context.getPair(static_cast<int>(peer))->connect({all.data() + at, all.data() + at + length});
    }
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
