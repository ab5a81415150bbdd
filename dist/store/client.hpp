// A connection to the store's server that several threads share, made again where it breaks.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include <weft/dist/store/auth.hpp>
#include <weft/dist/store/calls.hpp>
#include <weft/dist/store/channel.hpp>
#include <weft/dist/store/clock.hpp>
#include <weft/dist/store/socket.hpp>
#include <weft/dist/store/tcp_store.hpp>

namespace weft::inline v0::dist::detail {

/// Seconds past a deadline that the server may answer in.
inline constexpr double kServerSlack = 2.0;

class StoreClient {
 public:
  /// Connects; see TcpStore.
  explicit StoreClient(TcpStoreOptions options);
  ~StoreClient();

  /// Sends the request, waits for its reply, at most until `limit` seconds have passed, and gives
  /// its result. `name` is that of the call in error texts.
  std::string call(Request request, const char* name, double limit);

  /// As above, with the request's own `timeout` in seconds, which the server watches.
  std::string timed_call(Request request, const char* name, double timeout);

  /// Ends the calls that wait, and all later ones, with a CommError. From any thread.
  void close() noexcept;

  double seconds_since_contact() const;

  /// Whether the server does not take this client back, or has ended.
  bool refused() const noexcept { return refused_; }

  std::string endpoint() const;

 private:
  struct Link;

  std::shared_ptr<Link> connect(double absent, double timeout);
  std::shared_ptr<Link> handshake(Fd fd, TimePoint deadline);
  void note_attempt(bool nobody_listens);
  [[noreturn]] void fail_refused(RefusalReason reason);
  void exchange(std::unique_lock<std::mutex>& lock, uint64_t id, TimePoint deadline);
  std::shared_ptr<Link> current(std::unique_lock<std::mutex>& lock, uint64_t failures,
                                TimePoint deadline);
  void send(std::unique_lock<std::mutex>& lock, Link& link, std::string frame, TimePoint deadline);
  void read_once(std::unique_lock<std::mutex>& lock, const std::shared_ptr<Link>& from,
                 TimePoint deadline);
  bool deliver(Link& from);
  void note_contact() { contact_ = Clock::now().time_since_epoch().count(); }

  TcpStoreOptions options_;
  std::string path_;    // of a Unix socket
  std::string secret_;  // what both sides prove to know
  std::string client_id_ = random_bytes(kClientIdSize);
  Fd wakeup_;  // readable once closed

  std::atomic<bool> closed_ = false, refused_ = false;
  std::atomic<bool> answered_ = false;  // the server has this client on its list for sure
  std::atomic<Clock::rep> contact_ = 0;
  std::optional<TimePoint> nobody_since_;  // of the one who connects: refused without a break since

  std::mutex mutex_;
  std::condition_variable changed_;
  bool busy_ = false;  // a caller reads or connects, for all
  std::shared_ptr<Link> link_;
  uint64_t links_ = 0;     // made so far
  uint64_t failures_ = 0;  // attempts to make one again
  std::string lost_;       // the last one's error
  StoreCalls calls_;
};

}  // namespace weft::inline v0::dist::detail
