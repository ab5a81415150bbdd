// Questions: on a terminal with arrow keys or numbers, else by reading lines.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <weft/core/base/error.hpp>

namespace weft::inline v0::launcher {

/// A signal came while a question was open: nothing is to be done but to end.
class Interrupted : public Error {
 public:
  explicit Interrupted(int signal) : Error("interrupted"), signal_(signal) {}
  int signal() const noexcept { return signal_; }

 private:
  int signal_;
};

struct Choice {
  std::string value;  ///< what is answered
  std::string label;  ///< one line
};

class Asker {
 public:
  virtual ~Asker() = default;

  /// One of `choices`; `initial` is the index of the default. `explanation` is one line.
  virtual std::string choose(const std::string& question, const std::string& explanation,
                             const std::vector<Choice>& choices, size_t initial) = 0;

  /// A line of text, `initial` where it is empty. `problem` says what is wrong with an answer, or
  /// nothing; a wrong one is asked for again.
  virtual std::string ask(const std::string& question, const std::string& explanation,
                          const std::string& initial,
                          const std::function<std::string(const std::string&)>& problem) = 0;
};

/// With arrow keys where stdin and stdout are a terminal that can move its cursor, else by lines.
/// While it lives, SIGINT, SIGTERM, SIGHUP and SIGQUIT are its own: they throw Interrupted, with
/// the terminal as it was. Both throw LaunchError where the input ends before the questions do.
std::unique_ptr<Asker> make_asker();

}  // namespace weft::inline v0::launcher
