// The table of `launcher test`, printed row by row as results come.
#pragma once

#include <string>

#include <weft/launcher/programs/test/report.hpp>

namespace weft::inline v0::self_test {

class Table {
 public:
  /// Coloured where `terminal`.
  explicit Table(bool terminal);

  void head(const std::string& line);
  void row(const std::string& check, Verdict verdict, double seconds, const std::string& text);
  /// The line with the counts.
  void foot(double seconds);

  int failed() const { return failed_; }

 private:
  bool terminal_;
  bool begun_ = false;
  int passed_ = 0, failed_ = 0, skipped_ = 0;
};

}  // namespace weft::inline v0::self_test
