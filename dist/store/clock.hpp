// Deadlines on the monotonic clock: a changed wall clock must not end or prolong a wait.
#pragma once

#include <algorithm>
#include <chrono>

namespace weft::inline v0::dist::detail {

using Clock = std::chrono::steady_clock;
using TimePoint = Clock::time_point;

/// Longest wait that is reckoned with, in seconds (10 years): keeps additions within the clock's
/// range.
inline constexpr double kForever = 3.15e8;

inline Clock::duration to_duration(double seconds) {
  return std::chrono::duration_cast<Clock::duration>(
      std::chrono::duration<double>(std::clamp(seconds, 0.0, kForever)));
}

inline TimePoint deadline_after(double seconds) { return Clock::now() + to_duration(seconds); }

inline double seconds_since(TimePoint start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Milliseconds until `deadline` for poll and epoll_wait, rounded up; 0 where it has passed.
inline int poll_timeout(TimePoint deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
  return static_cast<int>(std::clamp<long long>(left, 0, 1 << 30));
}

}  // namespace weft::inline v0::dist::detail
