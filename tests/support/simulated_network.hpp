// A network of which everything follows from a seed: time, delays, broken and tampered
// connections, partitions, crashes. What runs on it is driven by callbacks and never waits.
//
// Connections behave as TCP does: bytes arrive in order or not at all, an end may learn late that
// the other one is gone. What TCP does not promise against somebody in between (bytes changed,
// doubled, left out or swapped) happens where `tamper` says so.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <queue>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace weft::test {

class SimulatedNetwork {
 public:
  using Clock = std::chrono::steady_clock;
  using Time = Clock::time_point;
  using Duration = Clock::duration;

  struct Options {
    Duration least_delay = std::chrono::microseconds(50);
    Duration most_delay = std::chrono::milliseconds(20);
    double break_chance = 0;   ///< that a message is the last one of its connection
    double tamper_chance = 0;  ///< that a message is changed, doubled, left out or swapped
    double silent_crash = 0;   ///< that a crashed host's peers are not told
    double silent_break = 0;   ///< that one end of a broken connection is not told
  };

  /// One end of a connection. Callbacks are set by its owner and not called after close().
  class Socket : public std::enable_shared_from_this<Socket> {
   public:
    std::function<void(std::string_view)> on_bytes;
    std::function<void()> on_close;

    void send(std::string bytes);
    void close();
    bool is_open() const { return open_; }

   private:
    friend class SimulatedNetwork;
    SimulatedNetwork* network_ = nullptr;
    std::weak_ptr<Socket> peer_;
    int host_ = 0, peer_host_ = 0;
    bool open_ = true;
    bool broken_ = false;  // nothing gets through any more
    Time last_delivery_;   // to the peer

    void closed_by_network();
  };
  using SocketPtr = std::shared_ptr<Socket>;

  SimulatedNetwork(uint64_t seed, Options options);

  Time now() const { return now_; }
  std::mt19937_64& random() { return random_; }
  bool chance(double probability);
  Duration between(Duration low, Duration high);

  /// Does `action` later, unless `host` (optional) has crashed by then.
  void after(Duration delay, std::function<void()> action, int host = -1);

  int add_host() { return hosts_++; }
  void listen(int host, std::function<void(SocketPtr)> accept);
  /// Gives the new connection, or nullptr where nobody answers.
  void connect(int from, int to, std::function<void(SocketPtr)> done);

  /// Ends all that runs on `host`.
  void crash(int host);
  bool crashed(int host) const { return crashed_.contains(host); }
  /// Nothing passes between the two for `duration`.
  void partition(int a, int b, Duration duration);

  /// Runs until `done` or nothing is left to happen before `limit`; whether it is done.
  bool run(Duration limit, const std::function<bool()>& done);

  uint64_t events() const { return next_event_; }

 private:
  struct Event {
    Time time;
    uint64_t number;
    int host;
    std::function<void()> action;
    bool operator<(const Event& other) const {
      return std::pair(other.time, other.number) < std::pair(time, number);
    }
  };

  Time open_again(int a, int b) const;
  void deliver(Socket& from, std::string bytes, Time time);
  void break_connection(Socket& end);
  void tell_closed(const std::weak_ptr<Socket>& end, bool silent);

  Options options_;
  std::mt19937_64 random_;
  Time now_{};
  uint64_t next_event_ = 0;
  std::priority_queue<Event> events_;
  int hosts_ = 0;
  std::set<int> crashed_;
  std::map<int, std::function<void(SocketPtr)>> listeners_;
  std::map<std::pair<int, int>, Time> partitions_;
  std::vector<std::weak_ptr<Socket>> sockets_;
};

}  // namespace weft::test
