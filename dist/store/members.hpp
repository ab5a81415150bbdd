// Who belongs to the job and still shows signs of life, apart from any socket: events and the time
// go in, who is gone comes out.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <weft/dist/store/clock.hpp>

namespace weft::inline v0::dist::detail {

class StoreMembers {
 public:
  /// A member whose connection breaks has `grace` to come back.
  explicit StoreMembers(Clock::duration grace) : grace_(grace) {}

  struct Gone {
    std::string name, client, reason;
  };

  /// Joins, or does nothing where this client has joined under that name. Where the name is held by
  /// a client whose connection is broken, that one is given up at once, and returned.
  /// Throws ArgumentError where the name or the client has joined otherwise.
  std::optional<Gone> join(const std::string& name, const std::string& client,
                           const std::string& peer, Clock::duration limit, TimePoint now);

  /// The name under which the client had joined, which it has no more; empty where it had not.
  std::string leave(const std::string& client);

  /// The client has been heard of.
  void contact(const std::string& client, TimePoint now);

  /// The client's connection has closed.
  void broken(const std::string& client, TimePoint now);

  std::optional<TimePoint> next_deadline() const;

  /// Takes out the members that are gone.
  std::vector<Gone> expire(TimePoint now);

 private:
  struct Member {
    std::string client, peer;
    Clock::duration limit;
    TimePoint contact;
    std::optional<TimePoint> broken;
    TimePoint due;  // where it stands in due_; may be earlier than its end
  };

  TimePoint end_of(const Member& member) const;
  void move_due(const std::string& name, Member& member, TimePoint due);
  Gone give_up(std::map<std::string, Member>::iterator member, TimePoint now);

  Clock::duration grace_;
  std::map<std::string, Member> members_;
  std::map<std::string, std::string> names_;  // by client
  std::set<std::pair<TimePoint, std::string>> due_;
};

}  // namespace weft::inline v0::dist::detail
