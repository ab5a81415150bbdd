// What the store's server does with requests, apart from any socket: requests and the time go in,
// replies come out. Not thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <weft/dist/store/clock.hpp>
#include <weft/dist/store/frame.hpp>
#include <weft/dist/store/table.hpp>

namespace weft::inline v0::dist::detail {

class StoreService {
 public:
  /// `send` takes a connection's number and the reply for it, as a frame.
  explicit StoreService(std::function<void(uint64_t, std::string)> send);

  /// Answers the request, at once or, for get and wait, when its keys exist or its time is up.
  void handle(uint64_t connection, const std::string& client, const Request& request,
              TimePoint now);

  /// Sets a key from the host's side.
  void publish(std::string_view key, std::string_view value);

  /// Drops the waits of a closed connection.
  void forget(uint64_t connection);

  /// When `expire` has to be called next.
  std::optional<TimePoint> next_deadline() const;

  /// Answers the waits whose time is up.
  void expire(TimePoint now);

 private:
  /// What one client has had done, kept until it says that it has the answer.
  struct Session {
    uint64_t acknowledged = 0;
    std::map<uint64_t, std::string> replies;
  };

  struct Waiter {
    uint64_t connection;
    uint64_t request;
    bool wants_value;
    std::vector<std::string> keys;
    TimePoint start, deadline;
  };

  std::string change(const Request& request);
  std::string change_once(const std::string& client, const Request& request);
  void start_wait(uint64_t connection, const Request& request, TimePoint now);
  void wake(const std::string& key);
  void drop(uint64_t waiter);

  std::function<void(uint64_t, std::string)> send_;
  StoreTable table_;
  std::unordered_map<std::string, Session> sessions_;
  uint64_t next_waiter_ = 1;
  std::map<uint64_t, Waiter> waiters_;
  std::unordered_map<std::string, std::set<uint64_t>> by_key_;
  std::map<uint64_t, std::set<uint64_t>> by_connection_;
  std::set<std::pair<TimePoint, uint64_t>> by_deadline_;
};

}  // namespace weft::inline v0::dist::detail
