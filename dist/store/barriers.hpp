// The store's barriers, apart from any socket: calls and the time go in, who is let go comes out.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <weft/dist/store/clock.hpp>

namespace weft::inline v0::dist::detail {

class StoreBarriers {
 public:
  /// One call of one client: the same however often its request is repeated.
  struct Caller {
    std::string client;
    uint64_t request = 0;
    auto operator<=>(const Caller&) const = default;
  };
  struct Arrival {
    uint64_t connection = 0;
    std::string label;  ///< for error texts: "rank 3"
    TimePoint start, deadline;
  };
  using Arrivals = std::vector<std::pair<Caller, Arrival>>;

  /// Counts the call, once; all arrivals where it was the last that was missing, else none.
  /// Throws ArgumentError where the count is below 1 or not that of the others, CommError where
  /// there are too many.
  Arrivals arrive(const std::string& name, int64_t count, const Caller& caller, Arrival arrival);

  /// Takes out what a client has waiting.
  void withdraw(const std::string& client);

  std::optional<TimePoint> next_deadline() const;

  struct Late {
    Caller caller;
    Arrival arrival;
    std::string text;  ///< of the TimeoutError
  };
  /// Takes out the arrivals whose time is up.
  std::vector<Late> expire(TimePoint now);

 private:
  struct Barrier {
    int64_t count = 0;
    std::map<Caller, Arrival> arrivals;
  };
  using Due = std::tuple<TimePoint, std::string, Caller>;

  void take_out(std::map<std::string, Barrier>::iterator barrier, const Caller& caller);

  std::map<std::string, Barrier> barriers_;
  std::set<Due> due_;
};

}  // namespace weft::inline v0::dist::detail
