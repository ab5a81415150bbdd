#include <weft/launcher/hostfile.hpp>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <map>

#include <weft/core/base/check.hpp>
#include <weft/launcher/commands.hpp>
#include <weft/launcher/error.hpp>
#include <weft/launcher/refusal.hpp>

namespace weft::inline v0::launcher {

namespace {

constexpr size_t kMaxName = 255;
constexpr size_t kShown = 60;  // bytes of a malformed word in its error

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

bool is_host(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' ||
         c == '_' || c == '-' || c == '@' || c == ':' || c == '%';
}

/// One line and where it stands.
struct Line {
  std::string_view file, text;
  size_t number;

  [[noreturn]] void wrong(size_t column, const std::string& what) const {
    throw ConfigError(fmt::format("{}:{}:{}: {}", file, number, column + 1, what));
  }
};

std::string shown(std::string_view word) {
  return fmt::format("'{}{}'", word.substr(0, kShown), word.size() > kShown ? "..." : "");
}

int parse_slots(const Line& line, size_t column, std::string_view digits) {
  int slots = 0;
  const char* end = digits.data() + digits.size();
  const auto [stop, error] = std::from_chars(digits.data(), end, slots);
  if (error != std::errc() || stop != end || slots < 1 || slots > kMaxRanks)
    line.wrong(column, fmt::format("{}: a number of ranks is a whole number from 1 to {}",
                                   shown(digits), kMaxRanks));
  return slots;
}

void check_host(const Line& line, size_t column, std::string_view host) {
  if (host.empty()) line.wrong(column, "the host's name is missing");
  if (host.size() > kMaxName)
    line.wrong(column, fmt::format("a host's name of {} bytes; at most {} are allowed", host.size(),
                                   kMaxName));
  // ssh would take it for an option.
  if (host.front() == '-') line.wrong(column, "a host's name does not begin with '-'");
  const auto bad = std::find_if_not(host.begin(), host.end(), is_host);
  if (bad != host.end())
    line.wrong(column + static_cast<size_t>(bad - host.begin()),
               "a character that no host's name has");
}

/// `HOST`, `HOST:N`, `[ADDRESS]`, `[ADDRESS]:N`
HostEntry parse_host(const Line& line, size_t column, std::string_view word) {
  HostEntry entry;
  std::string_view host = word;
  size_t slots_at = std::string_view::npos, host_at = 0;
  if (word.front() == '[') {
    const size_t close = word.find(']');
    if (close == std::string_view::npos) line.wrong(column, "']' is missing");
    host = word.substr(1, close - 1);
    host_at = 1;
    if (close + 1 < word.size() && word[close + 1] != ':')
      line.wrong(column + close + 1, "behind ']' there is nothing or :N");
    if (close + 1 < word.size()) slots_at = close + 2;
  } else if (std::count(word.begin(), word.end(), ':') == 1) {  // more: an IPv6 address
    slots_at = word.find(':') + 1;
    host = word.substr(0, slots_at - 1);
  }
  check_host(line, column + host_at, host);
  entry.host = host;
  if (slots_at != std::string_view::npos)
    entry.slots = parse_slots(line, column + slots_at, word.substr(slots_at));
  return entry;
}

void parse_setting(const Line& line, size_t column, std::string_view word, HostEntry& entry) {
  const size_t equals = word.find('=');
  const std::string key(word.substr(0, equals));
  if (key != "slots") {
    const std::string meant = likely_meant(key, {"slots"});
    line.wrong(column,
               meant.empty()
                   ? fmt::format("{}: behind a host there is slots=N", shown(word))
                   : fmt::format("unknown setting {}, did you mean {}?", shown(key), meant));
  }
  if (equals == std::string_view::npos) line.wrong(column + word.size(), "'=' is missing");
  if (entry.slots != 0) line.wrong(column, "the number of ranks is given twice");
  entry.slots = parse_slots(line, column + equals + 1, word.substr(equals + 1));
}

/// The line's entry; an empty host where it has none. `column` becomes the host's.
HostEntry parse_line(const Line& line, size_t& column) {
  const std::string_view text = line.text.substr(0, line.text.find('#'));
  HostEntry entry;
  for (size_t at = 0; at < text.size();) {
    if (is_blank(text[at])) {
      ++at;
      continue;
    }
    size_t end = at;
    while (end < text.size() && !is_blank(text[end])) ++end;
    const std::string_view word = text.substr(at, end - at);
    if (entry.host.empty()) {
      entry = parse_host(line, at, word);
      column = at;
    } else {
      parse_setting(line, at, word, entry);
    }
    at = end;
  }
  return entry;
}

}  // namespace

std::vector<HostEntry> parse_hostfile(std::string_view text, std::string_view file) {
  std::vector<HostEntry> entries;
  std::map<std::string, size_t> lines;  // where each host stands
  Line line{file, {}, 0};
  if (text.size() > kMaxHostfile)
    throw ConfigError(fmt::format("{}:1:1: {} bytes; a hostfile has at most {}", file, text.size(),
                                  kMaxHostfile));
  for (size_t start = 0; start < text.size();) {
    const size_t end = std::min(text.find('\n', start), text.size());
    line.text = text.substr(start, end - start);
    ++line.number;
    start = end + 1;
    size_t column = 0;
    HostEntry entry = parse_line(line, column);
    if (entry.host.empty()) continue;
    const auto [found, fresh] = lines.emplace(entry.host, line.number);
    if (!fresh)
      line.wrong(column, fmt::format("{} stands in line {} already; give each host once, with "
                                     "slots=N for its number of ranks",
                                     shown(entry.host), found->second));
    if (entries.size() == kMaxHosts)
      line.wrong(column, fmt::format("more than {} hosts", kMaxHosts));
    entry.place = fmt::format("{}:{}:{}", file, line.number, column + 1);
    entries.push_back(std::move(entry));
  }
  if (entries.empty())
    throw ConfigError(fmt::format("{}:{}:1: no host; write one per line, such as: node1 slots=2",
                                  file, line.number + 1));
  return entries;
}

std::vector<HostEntry> read_hostfile(const Setting& setting) {
  std::ifstream file(setting.value, std::ios::binary);
  std::string text(kMaxHostfile + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!file && !file.eof()) refuse_setting(setting, ": cannot be read: {}", std::strerror(errno));
  text.resize(static_cast<size_t>(file.gcount()));
  return parse_hostfile(text, setting.value);
}

}  // namespace weft::inline v0::launcher
