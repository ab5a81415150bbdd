// What ranks tell the program that started them: lines on their stdout, which the launcher passes
// on from any host, behind a prefix or not.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace weft::inline v0::self_test {

enum class Verdict {
  pass,
  skip,
  fail,
  lost,  ///< failed because the group had ended: another rank has the reason
};

enum class Event {
  hello,   ///< text: "WORLD_SIZE LOCAL_WORLD_SIZE PID HOST JOB"
  begin,   ///< of a check
  agreed,  ///< a check's end: verdict and text of all ranks together, this rank's seconds
  end,     ///< its end on this rank alone, as the group has ended
  drill,   ///< in the kill drill; text: "culprit RANK", "kill NANOSECONDS" or "lost NANOSECONDS"
};

struct Report {
  int rank = 0;
  Event event = Event::hello;
  std::string check = {};
  Verdict verdict = Verdict::pass;
  double seconds = 0;
  std::string text = {};
};

/// One line, without its end; line breaks and tabs in the text become spaces.
std::string format(const Report& report);

/// The report in a line, if there is one: whatever stands before it is a prefix.
std::optional<Report> parse(std::string_view line);

}  // namespace weft::inline v0::self_test
