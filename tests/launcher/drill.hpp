// The plan of one kill schedule, which the test draws and the ranks carry out.
#pragma once

#include <chrono>
#include <cstdint>
#include <sstream>
#include <string>

namespace weft::test {

enum class Place { forward, collective, log_burst };
/// exit: std::exit; quick_exit: _exit; unwind: an exception that main turns into an exit code;
/// uncaught: one that nobody catches; signal; hang: until the test kills it.
enum class Manner { exit, quick_exit, unwind, uncaught, signal, hang };

struct Plan {
  int ranks = 2;
  int culprit = 0;
  int step = 0;
  Place place = Place::forward;
  Manner manner = Manner::exit;
  int value = 0;  ///< exit code or signal
  int microseconds = 0;
  int stubborn = -1;  ///< a rank that ignores SIGTERM; -1: none

  std::string text() const {
    std::ostringstream out;
    out << ranks << ' ' << culprit << ' ' << step << ' ' << static_cast<int>(place) << ' '
        << static_cast<int>(manner) << ' ' << value << ' ' << microseconds << ' ' << stubborn;
    return out.str();
  }

  static Plan parse(const std::string& text) {
    std::istringstream in(text);
    Plan plan;
    int place = 0, manner = 0;
    in >> plan.ranks >> plan.culprit >> plan.step >> place >> manner >> plan.value >>
        plan.microseconds >> plan.stubborn;
    plan.place = static_cast<Place>(place);
    plan.manner = static_cast<Manner>(manner);
    return plan;
  }
};

inline int64_t now_ns() {
  return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}

}  // namespace weft::test
