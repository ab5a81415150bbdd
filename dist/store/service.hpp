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

#include <weft/dist/store/barriers.hpp>
#include <weft/dist/store/clock.hpp>
#include <weft/dist/store/frame.hpp>
#include <weft/dist/store/members.hpp>
#include <weft/dist/store/table.hpp>

namespace weft::inline v0::dist::detail {

/// A client, as its handshake says.
struct ClientInfo {
  std::string id;    ///< the same over all its connections
  std::string peer;  ///< for texts: "10.0.0.3:4711 (rank 3)"
  int rank = -1;
  int epoch = -1;
};

class StoreService {
 public:
  struct Hooks {
    /// takes a connection's number and the reply for it, as a frame
    std::function<void(uint64_t, std::string)> send;
    /// (optional) told of a member that is gone, and why
    std::function<void(std::string_view, std::string_view)> on_gone = nullptr;
    /// (optional) told of each key that a client sets, its value, and the client's name
    std::function<void(std::string_view, std::string_view, std::string_view)> on_set = nullptr;
  };

  /// A member whose connection breaks has `grace` to come back.
  explicit StoreService(Hooks hooks, Clock::duration grace = std::chrono::seconds(1));

  /// Whether the client has had a connection before and is not forgotten.
  bool knows(const std::string& client) const { return sessions_.contains(client); }

  /// A connection has passed its handshake. Throws CommError where there are too many clients.
  void connected(uint64_t connection, const ClientInfo& client, TimePoint now);

  /// Answers the request, at once or, for those that wait, when its time has come.
  void handle(uint64_t connection, const Request& request, TimePoint now);

  /// A connection has closed. Drops its waits.
  void disconnected(uint64_t connection, TimePoint now);

  // From the host's side:
  const std::string* find(std::string_view key) const { return table_.find(key); }
  void publish(std::string_view key, std::string_view value);
  void delete_prefix(std::string_view prefix) { table_.erase_prefix(prefix); }

  /// Forgets the clients of epochs from 0 to below `epoch`; their connections, which are to be
  /// closed.
  std::vector<uint64_t> end_epochs_below(int epoch);

  /// When `expire` has to be called next.
  std::optional<TimePoint> next_deadline() const;

  /// Does what is due: answers the waits whose time is up, gives up silent members.
  void expire(TimePoint now);

 private:
  /// What one client has had done, kept until it says that it has the answer.
  struct Session {
    ClientInfo info;
    uint64_t connection = 0;  // the newest one; 0: none
    TimePoint left;           // when it closed
    uint64_t acknowledged = 0;
    std::map<uint64_t, std::string> replies;
    std::string given_up;  // why
  };

  struct Waiter {
    uint64_t connection;
    uint64_t request;
    FrameKind kind;  // get, wait or wait_any
    std::vector<std::string> keys;
    TimePoint start, deadline;
  };

  std::string change(Session& session, const Request& request, TimePoint now);
  std::optional<std::string> answered_before(Session& session, const Request& request);
  std::string change_once(Session& session, const Request& request, TimePoint now);
  void join(Session& session, const Request& request, TimePoint now);
  void leave(Session& session);
  void give_up(const StoreMembers::Gone& gone);
  void arrive(uint64_t connection, Session& session, const Request& request, TimePoint now);
  void answer(const StoreBarriers::Caller& caller, uint64_t connection, std::string frame);
  void start_wait(uint64_t connection, const Request& request, TimePoint now);
  std::optional<std::string> result_of(const Waiter& waiter) const;
  void wake(const std::string& key);
  void drop(uint64_t waiter);
  void expire_waits(TimePoint now);
  void forget_clients(TimePoint now);

  Hooks hooks_;
  StoreTable table_;
  StoreBarriers barriers_;
  StoreMembers members_;
  std::unordered_map<std::string, Session> sessions_;
  std::unordered_map<uint64_t, std::string> clients_;     // by connection
  std::set<std::pair<TimePoint, std::string>> departed_;  // sessions without a connection
  uint64_t next_waiter_ = 1;
  std::map<uint64_t, Waiter> waiters_;
  std::unordered_map<std::string, std::set<uint64_t>> by_key_;
  std::map<uint64_t, std::set<uint64_t>> by_connection_;
  std::set<std::pair<TimePoint, uint64_t>> by_deadline_;
};

}  // namespace weft::inline v0::dist::detail
