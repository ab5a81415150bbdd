#include <weft/launcher/programs/test/report.hpp>

#include <algorithm>
#include <charconv>
#include <vector>

#include <weft/core/base/check.hpp>

namespace weft::inline v0::self_test {

namespace {

constexpr std::string_view kMark = "@weft-test\t";
constexpr size_t kFields = 6;
constexpr size_t kLongest = 2000;  // bytes of a text

template <class T>
bool read(std::string_view text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

std::string format(const Report& report) {
  std::string text = report.text.substr(0, kLongest);
  std::replace_if(
      text.begin(), text.end(), [](char c) { return c == '\n' || c == '\t' || c == '\r'; }, ' ');
  return fmt::format("{}{}\t{}\t{}\t{}\t{:.6f}\t{}", kMark, report.rank,
                     static_cast<int>(report.event), report.check, static_cast<int>(report.verdict),
                     report.seconds, text);
}

std::optional<Report> parse(std::string_view line) {
  const size_t mark = line.find(kMark);
  if (mark == std::string_view::npos) return std::nullopt;
  line.remove_prefix(mark + kMark.size());
  std::vector<std::string_view> fields;
  while (fields.size() + 1 < kFields) {
    const size_t tab = line.find('\t');
    if (tab == std::string_view::npos) return std::nullopt;
    fields.push_back(line.substr(0, tab));
    line.remove_prefix(tab + 1);
  }
  Report report;
  int event = 0, verdict = 0;
  if (!read(fields[0], report.rank) || !read(fields[1], event) || !read(fields[3], verdict) ||
      !read(fields[4], report.seconds) || event < 0 || event > static_cast<int>(Event::drill) ||
      verdict < 0 || verdict > static_cast<int>(Verdict::lost))
    return std::nullopt;
  report.event = static_cast<Event>(event);
  report.check = fields[2];
  report.verdict = static_cast<Verdict>(verdict);
  report.text = line;
  return report;
}

}  // namespace weft::inline v0::self_test
