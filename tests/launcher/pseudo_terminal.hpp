// A program on a terminal that the test holds the other end of.
#pragma once

#include <sys/types.h>
#include <termios.h>

#include <string>
#include <vector>

namespace weft::test {

class PseudoTerminal {
 public:
  /// Starts `argv` with `environment` ("NAME=value") added, on a terminal of 24 rows.
  explicit PseudoTerminal(const std::vector<std::string>& argv,
                          const std::vector<std::string>& environment, int columns = 100);
  ~PseudoTerminal();
  PseudoTerminal(const PseudoTerminal&) = delete;
  PseudoTerminal& operator=(const PseudoTerminal&) = delete;

  void send(const std::string& keys);

  /// Reads until `text` shows up behind what earlier calls have found; fails after 20 s.
  void wait_for(const std::string& text);

  /// Reads to the end and returns the exit code (128 + signal).
  int finish();

  /// What the terminal has been sent so far.
  const std::string& output() const { return output_; }
  termios modes() const;

 private:
  bool read_more(int milliseconds);

  pid_t pid_ = -1;
  int fd_ = -1, other_end_ = -1;
  std::string output_;
  size_t seen_ = 0;
};

}  // namespace weft::test
