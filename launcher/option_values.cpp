#include <weft/launcher/option_values.hpp>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <string_view>

#include <weft/core/base/check.hpp>
#include <weft/core/base/env.hpp>
#include <weft/launcher/commands.hpp>
#include <weft/launcher/error.hpp>
#include <weft/launcher/refusal.hpp>

namespace weft::inline v0::launcher {

namespace {

template <class... Args>
[[noreturn]] void refuse(const Setting& setting, fmt::format_string<Args...> text, Args&&... args) {
  refuse_setting(setting, ": {}", fmt::format(text, std::forward<Args>(args)...));
}

template <class T>
std::optional<T> number(std::string_view text) {
  T value{};
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end) return std::nullopt;
  return value;
}

bool same_word(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) {
    return std::tolower(static_cast<unsigned char>(x)) ==
           std::tolower(static_cast<unsigned char>(y));
  });
}

template <class T>
std::pair<T, T> range_of(const Option& option) {
  const std::string_view range = option.range;
  const size_t dots = range.find("..");
  return {*number<T>(range.substr(0, dots)), *number<T>(range.substr(dots + 2))};
}

int read_port(const Setting& setting, std::string_view text) {
  const auto port = number<int>(text);
  if (!port || *port < 0 || *port > 65535)
    refuse(setting, "a port is a whole number from 0 to 65535");
  return *port;
}

bool is_name(std::string_view text) {
  const auto fits = [](char c) {
    return c == '_' || std::isalnum(static_cast<unsigned char>(c)) != 0;
  };
  return !text.empty() && std::isdigit(static_cast<unsigned char>(text[0])) == 0 &&
         std::all_of(text.begin(), text.end(), fits);
}

/// What the launcher says to each rank, so that nobody else may.
struct OwnVariable {
  const char* name;
  const char* remedy;
};
constexpr const char* kLeaveOut = "leave it out";
constexpr OwnVariable kOwnVariables[] = {
    {"RANK", kLeaveOut},
    {"LOCAL_RANK", kLeaveOut},
    {"WORLD_SIZE", "give --num_processes N"},
    {"LOCAL_WORLD_SIZE", "give -n N"},
    {"GROUP_RANK", "give --node_rank N"},
    {"GROUP_WORLD_SIZE", "give --nnodes N"},
    {"MASTER_ADDR", "give --rdzv_endpoint HOST:PORT"},
    {"MASTER_PORT", "give --rdzv_endpoint HOST:PORT"},
    {"RESTART_COUNT", kLeaveOut},
    {"TORCHELASTIC_RESTART_COUNT", kLeaveOut},
    {"WEFT_JOB_ID", "give --rdzv_id NAME"},
    {"WEFT_LAUNCHER_ID", kLeaveOut},
    {"WEFT_STORE", "give --rdzv_endpoint HOST:PORT"},
    {"WEFT_TOKEN", "set it in the launcher's own environment"},
    {"WEFT_CRASH_FD", kLeaveOut},
};

}  // namespace

std::string shown(const Setting& setting) {
  switch (setting.layer) {
    case Layer::flag:
      if (setting.value.empty()) return setting.spelling + "=";
      if (setting.option->kind == Kind::flag && setting.value == "true") return setting.spelling;
      return setting.spelling + " " + setting.value;
    case Layer::environment: return setting.origin;
    case Layer::config:
      return fmt::format("{}: {}: {}", setting.place, setting.spelling, setting.value);
    case Layer::initial: break;
  }
  return fmt::format("{} {} (default)", name_of(*setting.option), setting.value);
}

std::optional<bool> truth_of(std::string_view text) {
  for (const char* yes : {"true", "yes", "on", "1"})
    if (same_word(text, yes)) return true;
  for (const char* no : {"false", "no", "off", "0"})
    if (same_word(text, no)) return false;
  return std::nullopt;
}

bool read_flag(const Setting& setting) {
  const auto truth = truth_of(setting.value);
  if (!truth) refuse(setting, "true or false is expected");
  return *truth;
}

int64_t read_integer(const Setting& setting) {
  const auto [low, high] = range_of<int64_t>(*setting.option);
  const auto value = number<int64_t>(setting.value);
  if (value && *value >= low && *value <= high) return *value;
  const bool seconds = std::string_view(setting.option->value) == "SECONDS";
  const char* what = seconds ? "a whole number of seconds" : "a whole number";
  if (high >= 2147483647) refuse(setting, "{} of {} or more", what, low);
  refuse(setting, "{} from {} to {}", what, low, high);
}

double read_real(const Setting& setting) {
  const auto [low, high] = range_of<double>(*setting.option);
  const auto value = number<double>(setting.value);
  if (!value || !(*value >= low && *value <= high))
    refuse(setting, "a number of {:g} or more", low);
  return *value;
}

double read_seconds(const Setting& setting) {
  constexpr double kYear = 366.0 * 86400;
  const bool zero_allowed = setting.option->kind == Kind::period;
  const auto seconds = number<double>(setting.value);
  const bool fits = seconds && *seconds <= kYear && (zero_allowed ? *seconds >= 0 : *seconds > 0);
  if (!fits)
    refuse(setting, "a time is a number of seconds{}, at most a year, such as 30 or 2.5",
           zero_allowed ? "" : " above 0");
  return *seconds;
}

std::optional<int> read_ranks(const Setting& setting) {
  if (setting.value == "auto" || setting.value == "cpu") return std::nullopt;
  if (setting.value == "gpu")
    refuse(setting, "this version computes on CPUs alone; give auto or a number");
  const auto count = number<int>(setting.value);
  if (!count || *count < 1)
    refuse(setting, "the number of ranks is a whole number of 1 or more, or auto");
  const bool total = name_of(*setting.option) == "num_processes";
  if (!total && *count > kMaxRanks)
    refuse(setting, "more ranks than one launcher starts; give at most {}", kMaxRanks);
  if (*count > (1 << 20))
    refuse(setting, "more ranks than a job may have; give at most {}", 1 << 20);
  return *count;
}

std::pair<int, int> read_nodes(const Setting& setting) {
  const std::string_view text = setting.value;
  const size_t colon = text.find(':');
  const auto low = number<int>(text.substr(0, colon));
  const auto high = colon == std::string_view::npos ? low : number<int>(text.substr(colon + 1));
  constexpr int kMost = 65536;
  if (!low || !high || *low < 1 || *high < *low || *high > kMost)
    refuse(setting, "a number of hosts of 1 or more, or MIN:MAX, such as 4 or 1:4");
  return {*low, *high};
}

Endpoint read_endpoint(const Setting& setting) {
  const std::string_view text = setting.value;
  Endpoint endpoint;
  if (text.starts_with('[')) {
    const size_t end = text.find(']');
    const std::string_view rest =
        end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
    if (end == std::string_view::npos || (!rest.empty() && rest[0] != ':'))
      refuse(setting, "an IPv6 address is written [ADDRESS]:PORT");
    endpoint.host = text.substr(1, end - 1);
    if (!rest.empty()) endpoint.port = read_port(setting, rest.substr(1));
  } else if (std::count(text.begin(), text.end(), ':') > 1) {
    endpoint.host = text;  // an IPv6 address alone
  } else {
    const size_t colon = text.find(':');
    endpoint.host = text.substr(0, colon);
    if (colon != std::string_view::npos) endpoint.port = read_port(setting, text.substr(colon + 1));
  }
  const bool odd = std::any_of(endpoint.host.begin(), endpoint.host.end(), [](char c) {
    return c == '/' || c == '@' || std::isspace(static_cast<unsigned char>(c)) != 0;
  });
  if (endpoint.host.empty() || odd)
    refuse(setting, "an address is HOST or HOST:PORT, such as node0:29500");
  return endpoint;
}

StreamMask read_mask(const Setting& setting) {
  StreamMask mask;
  const auto fail = [&] {
    refuse(setting,
           "a mask is 0, 1 (stdout), 2 (stderr) or 3 (both), or RANK:MASK,..., such as "
           "0:3,1:2");
  };
  const auto bits = [&](std::string_view text) {
    const auto value = number<int>(text);
    if (!value || *value < 0 || *value > 3) fail();
    return *value;
  };
  if (setting.value.find(':') == std::string::npos) {
    mask.all = bits(setting.value);
    return mask;
  }
  for (const std::string& part : split(setting.value, ',')) {
    const size_t colon = part.find(':');
    if (colon == std::string::npos) fail();
    const auto rank = number<int>(std::string_view(part).substr(0, colon));
    if (!rank || *rank < 0 || *rank >= kMaxRanks) fail();
    for (const auto& [known, value] : mask.some)
      if (known == *rank) refuse(setting, "rank {} is named twice", *rank);
    mask.some.emplace_back(*rank, bits(std::string_view(part).substr(colon + 1)));
  }
  return mask;
}

std::vector<int> read_integers(const Setting& setting) {
  std::vector<int> values;
  for (const std::string& part : split(setting.value, ',')) {
    const auto value = number<int>(part);
    if (!value || *value < 0 || *value > 65535)
      refuse(setting, "whole numbers with commas in between are expected, such as 0,1");
    values.push_back(*value);
  }
  return values;
}

std::optional<std::vector<int>> read_gpus(const Setting& setting) {
  if (setting.value == "all") return std::nullopt;
  std::vector<int> ids;
  for (const std::string& part : split(setting.value, ',')) {
    const auto id = number<int>(part);
    if (!id || *id < 0 || *id > 65535)
      refuse(setting, "GPUs are all, or their numbers with commas in between, such as 0,1");
    if (std::find(ids.begin(), ids.end(), *id) != ids.end())
      refuse(setting, "GPU {} is named twice", *id);
    ids.push_back(*id);
  }
  if (ids.empty()) refuse(setting, "no GPU is named; to use none: --cpu");
  return ids;
}

std::string read_choice(const Setting& setting) {
  const std::vector<std::string> choices = split(setting.option->range, '|');
  for (const std::string& choice : choices)
    if (same_word(choice, setting.value)) return choice;
  std::string text;
  for (size_t i = 0; i < choices.size(); ++i)
    text += (i == 0 ? "" : i + 1 == choices.size() ? " or " : ", ") + choices[i];
  const std::string meant = likely_meant(setting.value, choices);
  refuse(setting, "{} is expected{}", text,
         meant.empty() ? "" : fmt::format(", did you mean {}?", meant));
}

std::string read_variable(const Setting& setting) {
  const size_t equals = setting.value.find('=');
  const std::string name = setting.value.substr(0, equals);
  if (!is_name(name))
    refuse(setting, "NAME or NAME=VALUE is expected, a name having letters, digits and _");
  for (const OwnVariable& own : kOwnVariables)
    if (name == own.name)
      refuse(setting, "the launcher sets {} for each rank; {}", name, own.remedy);
  if (equals != std::string::npos) return setting.value;
  const auto value = env::get(name.c_str());
  if (!value) refuse(setting, "{} is not set here; write {}=VALUE", name, name);
  return name + "=" + *value;
}

namespace {

/// Refuses a `${NAME}` that is none of those that expand_prefix puts values for.
void check_prefix(const Setting& setting) {
  const std::string_view text = setting.value;
  for (size_t at = text.find("${"); at != std::string_view::npos; at = text.find("${", at + 2)) {
    const std::string_view rest = text.substr(at + 2);
    const bool known =
        std::any_of(std::begin(kPrefixNames), std::end(kPrefixNames), [&](std::string_view name) {
          return rest.starts_with(name) && rest.substr(name.size()).starts_with('}');
        });
    if (!known)
      refuse(setting, "{}: there are ${{rank}}, ${{local_rank}}, ${{hostname}} and ${{job_id}}",
             text.substr(
                 at, rest.find('}') == std::string_view::npos ? text.npos : rest.find('}') + 3));
  }
}

}  // namespace

void check_value(const Setting& setting) {
  const std::string name = name_of(*setting.option);
  const bool may_be_empty = name == "log_line_prefix_template" ||
                            setting.option->kind == Kind::gpus ||
                            setting.option->section == Section::idle;
  if (setting.layer == Layer::flag && setting.value.empty() && !may_be_empty)
    refuse(setting, "a value is missing; give one, or leave the option out");
  switch (setting.option->kind) {
    case Kind::flag:
    case Kind::boolean: read_flag(setting); return;
    case Kind::integer: read_integer(setting); return;
    case Kind::real: read_real(setting); return;
    case Kind::seconds:
    case Kind::period: read_seconds(setting); return;
    case Kind::ranks: read_ranks(setting); return;
    case Kind::nodes: read_nodes(setting); return;
    case Kind::endpoint: read_endpoint(setting); return;
    case Kind::choice: read_choice(setting); return;
    case Kind::mask: read_mask(setting); return;
    case Kind::integers: read_integers(setting); return;
    case Kind::gpus: read_gpus(setting); return;
    case Kind::variable: read_variable(setting); return;
    case Kind::text:
      if (setting.value.find('\0') != std::string::npos) refuse(setting, "has a NUL byte");
      if (name == "log_line_prefix_template") check_prefix(setting);
      if (name == "rdzv_id" &&
          (setting.value.find('/') != std::string::npos ||
           setting.value.find("..") != std::string::npos || setting.value == "."))
        refuse(setting, "a job's name is also that of a folder of logs, so without / and ..");
      return;
  }
}

}  // namespace weft::inline v0::launcher
