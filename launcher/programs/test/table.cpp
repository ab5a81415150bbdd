#include <weft/launcher/programs/test/table.hpp>

#include <cstdio>

#include <weft/core/base/check.hpp>

namespace weft::inline v0::self_test {

namespace {

void print(const std::string& line) {
  std::fprintf(stdout, "%s\n", line.c_str());
  std::fflush(stdout);
}

std::string time_text(double seconds) {
  return seconds < 1 ? fmt::format("{:.0f} ms", seconds * 1e3) : fmt::format("{:.1f} s", seconds);
}

}  // namespace

Table::Table(bool terminal) : terminal_(terminal) {}

void Table::head(const std::string& line) { print(line); }

void Table::row(const std::string& check, Verdict verdict, double seconds,
                const std::string& text) {
  if (!begun_)
    print(fmt::format("{:<26}  {:<6}  {:>7}  {}", "check", "result", "time", "figure or hint"));
  begun_ = true;
  const char* word = "FAIL";
  const char* colour = "\033[31m";
  if (verdict == Verdict::pass) {
    ++passed_;
    word = "PASS";
    colour = "\033[32m";
  } else if (verdict == Verdict::skip) {
    ++skipped_;
    word = "SKIP";
    colour = "\033[33m";
  } else {
    ++failed_;
  }
  const std::string cell = fmt::format("{:<6}", word);
  std::string line =
      fmt::format("{:<26}  {}  {:>7}  {}", check, terminal_ ? colour + cell + "\033[0m" : cell,
                  verdict == Verdict::skip ? "" : time_text(seconds), text);
  line.erase(line.find_last_not_of(' ') + 1);
  print(line);
}

void Table::foot(double seconds) {
  print(fmt::format("{} passed, {} failed, {} skipped in {:.1f} s", passed_, failed_, skipped_,
                    seconds));
}

}  // namespace weft::inline v0::self_test
