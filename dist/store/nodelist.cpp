#include <weft/dist/store/nodelist.hpp>

#include <charconv>
#include <cstdint>
#include <optional>
#include <utility>

#include <weft/core/base/check.hpp>

namespace weft::inline v0::dist::detail {

using weft::detail::fail;

namespace {

constexpr size_t kMaxDigits = 9;  // of a number in a range
constexpr int64_t kMaxCount = 1'000'000;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool is_name(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' || c == '_' ||
         c == '-';
}

/// The text and how much of it has been read.
class Cursor {
 public:
  Cursor(std::string_view text, std::string_view origin) : text_(text), origin_(origin) {
    if (text.empty()) fail<ArgumentError>("{}: the list is empty", origin);
    if (text.size() > kMaxNodelist)
      fail<ArgumentError>("{}: a list of {} bytes; at most {} are read", origin, text.size(),
                          kMaxNodelist);
  }

  bool at_end() const { return at_ == text_.size(); }
  char peek() const { return at_end() ? '\0' : text_[at_]; }
  void skip() { ++at_; }
  bool take(char c) {
    if (at_end() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  std::string_view take_name() {
    const size_t start = at_;
    while (!at_end() && is_name(text_[at_])) ++at_;
    return text_.substr(start, at_ - start);
  }

  std::string_view take_digits() {
    const size_t start = at_;
    while (!at_end() && is_digit(text_[at_])) ++at_;
    if (at_ == start) wrong("a number is missing");
    if (at_ - start > kMaxDigits) wrong("a number has more than 9 digits");
    return text_.substr(start, at_ - start);
  }

  [[noreturn]] void wrong(std::string_view what) const {
    constexpr size_t kShown = 100;
    fail<ArgumentError>("{}: column {}: {}, in '{}'{}", origin_, at_ + 1, what,
                        text_.substr(0, kShown), text_.size() > kShown ? "..." : "");
  }

 private:
  std::string_view text_, origin_;
  size_t at_ = 0;
};

int64_t to_number(std::string_view digits) {
  int64_t value = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), value);
  return value;
}

std::string padded(int64_t value, size_t width) {
  std::string digits = std::to_string(value);
  if (digits.size() < width) digits.insert(0, width - digits.size(), '0');
  return digits;
}

/// The numbers of `01-03,7]`, of which there may be `most`.
std::vector<std::string> parse_brackets(Cursor& cursor, size_t most) {
  std::vector<std::string> numbers;
  do {
    const std::string_view first = cursor.take_digits();
    const int64_t low = to_number(first);
    int64_t high = low;
    if (cursor.take('-')) high = to_number(cursor.take_digits());
    if (high < low) cursor.wrong("a range ends below its start");
    if (numbers.size() + static_cast<size_t>(high - low) >= most)
      cursor.wrong("the list stands for more than 65536 hosts");
    for (int64_t value = low; value <= high; ++value)
      numbers.push_back(padded(value, first.size()));
  } while (cursor.take(','));
  if (cursor.peek() == '[') cursor.wrong("a bracket inside brackets");
  if (!cursor.take(']')) cursor.wrong("']' or ',' is missing");
  return numbers;
}

/// One entry of the list: names that share a form. `most` as above.
std::vector<std::string> parse_entry(Cursor& cursor, size_t most) {
  std::vector<std::string> names = {""};
  for (;;) {
    const std::string_view literal = cursor.take_name();
    for (std::string& name : names) name += literal;
    const bool brackets = cursor.take('[');
    if (!brackets && literal.empty()) break;
    if (!brackets) continue;
    const std::vector<std::string> numbers = parse_brackets(cursor, most / names.size() + 1);
    if (names.size() * numbers.size() > most)
      cursor.wrong("the list stands for more than 65536 hosts");
    std::vector<std::string> longer;
    longer.reserve(names.size() * numbers.size());
    for (const std::string& name : names)
      for (const std::string& number : numbers) longer.push_back(name + number);
    names = std::move(longer);
    if (names.front().size() > kMaxHostName) break;
  }
  if (names.front().empty()) cursor.wrong("a host's name is missing");
  if (names.front().front() == '-') cursor.wrong("a host's name begins with '-'");
  if (names.back().size() > kMaxHostName) cursor.wrong("a host's name is longer than 255 bytes");
  return names;
}

}  // namespace

std::vector<std::string> expand_nodelist(std::string_view text, std::string_view origin) {
  Cursor cursor(text, origin);
  std::vector<std::string> hosts;
  do {
    std::vector<std::string> names = parse_entry(cursor, kMaxNodes - hosts.size());
    if (hosts.size() + names.size() > kMaxNodes)
      cursor.wrong("the list stands for more than 65536 hosts");
    for (std::string& name : names) hosts.push_back(std::move(name));
  } while (cursor.take(','));
  if (!cursor.at_end()) cursor.wrong("a character that no host's name has");
  return hosts;
}

std::vector<int> expand_counts(std::string_view text, std::string_view origin) {
  Cursor cursor(text, origin);
  std::vector<int> counts;
  do {
    const int64_t count = to_number(cursor.take_digits());
    if (count < 1 || count > kMaxCount) cursor.wrong("a count is not in 1 to 1000000");
    int64_t times = 1;
    if (cursor.take('(')) {
      if (!cursor.take('x')) cursor.wrong("'x' is missing");
      times = to_number(cursor.take_digits());
      if (!cursor.take(')')) cursor.wrong("')' is missing");
    }
    if (times < 1 || counts.size() + static_cast<size_t>(times) > kMaxNodes)
      cursor.wrong("a repetition is not in 1 to 65536");
    counts.insert(counts.end(), static_cast<size_t>(times), static_cast<int>(count));
  } while (cursor.take(','));
  if (!cursor.at_end()) cursor.wrong("not of the form 2(x3),1");
  return counts;
}

}  // namespace weft::inline v0::dist::detail
