// A clock that costs a few nanoseconds and runs alike on all CPUs of a host.
#pragma once

#include <cstdint>

#include <weft/dist/store/clock.hpp>

namespace weft::inline v0::dist::detail {

/// The CPU's own counter where it has one that never stops, else the monotonic clock.
inline uint64_t ticks() {
#if defined(__x86_64__)
  return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
  uint64_t value = 0;
  asm volatile("mrs %0, cntvct_el0" : "=r"(value));
  return value;
#else
  return static_cast<uint64_t>(Clock::now().time_since_epoch().count());
#endif
}

/// Ticks since `start`; none where another CPU, whose counter is a little ahead, took that.
inline uint64_t ticks_since(uint64_t start) {
  const auto passed = static_cast<int64_t>(ticks() - start);
  return passed > 0 ? static_cast<uint64_t>(passed) : 0;
}

/// Measures the length of a tick against the monotonic clock, from its construction on.
class TickScale {
 public:
  double seconds_per_tick() const {
    double seconds = 0;
    uint64_t passed = 0;
    do {  // at once after construction there is nothing to measure yet
      seconds = seconds_since(time_);
      passed = ticks_since(ticks_);
    } while (seconds < 2e-4 || passed == 0);
    return seconds / static_cast<double>(passed);
  }

 private:
  TimePoint time_ = Clock::now();
  uint64_t ticks_ = ticks();
};

}  // namespace weft::inline v0::dist::detail
