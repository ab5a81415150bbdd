// Programs that bench/comm measures side by side: each contender is a few rank processes that sleep
// on a socket, do what the driver orders, and sleep again. So no contender takes CPU time from
// another one, however its library waits.
//
// The protocol is lines of text over a Unix socket with an abstract address: a rank says "hello
// RANK"; the driver says "OPERATION BYTES IN_ARENA ITERATIONS" to all ranks, and each answers with
// its median time per call in seconds. Closing the socket ends the rank.
#pragma once

#include <sys/types.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace weft::bench {

/// A series of calls: "all_reduce" of f32 (in memory that the ranks share, or their own) or
/// "barrier".
struct Order {
  std::string operation;
  size_t bytes = 0;
  bool in_arena = false;
  int iterations = 1;
};

/// The rank's side: carries out orders until the driver closes. `work` returns the median.
void serve(const std::string& address, int rank, const std::function<double(const Order&)>& work);

/// The median seconds of `iterations` calls, after a few that are not timed. `prepare` comes before
/// each call, outside of the time: all contenders rewrite their data there.
template <class Prepare, class Call>
double median_time(int iterations, const Prepare& prepare, const Call& call) {
  using Clock = std::chrono::steady_clock;
  const int warm = std::min(iterations, 10);
  std::vector<double> times;
  times.reserve(static_cast<size_t>(iterations));
  for (int i = -warm; i < iterations; ++i) {
    prepare();
    const auto start = Clock::now();
    call();
    const std::chrono::duration<double> taken = Clock::now() - start;
    if (i >= 0) times.push_back(taken.count());
  }
  const auto middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
  std::nth_element(times.begin(), middle, times.end());
  return *middle;
}

/// The driver's side. Started as `command(address)` says, a list of processes that together
/// are `ranks` ranks.
class Contender {
 public:
  using Commands = std::function<std::vector<std::vector<std::string>>(const std::string& address)>;

  /// Waits until all ranks have said hello; `why_not` says why where they do not.
  Contender(std::string name, int ranks, const Commands& commands, double patience = 60);
  ~Contender();
  Contender(const Contender&) = delete;
  Contender& operator=(const Contender&) = delete;

  const std::string& name() const { return name_; }
  const std::string& why_not() const { return why_not_; }

  /// The slowest rank's median. Throws std::runtime_error where a rank is gone.
  double measure(const Order& order);

 private:
  void start(const std::vector<std::string>& command);
  bool accept_all(int listener, int ranks, double patience);
  bool any_ended();

  std::string name_;
  std::string why_not_;
  std::vector<pid_t> processes_;
  std::vector<int> sockets_;
};

/// The folder of this very program.
std::string own_folder();

}  // namespace weft::bench
