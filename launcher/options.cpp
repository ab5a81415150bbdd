#include <weft/launcher/options.hpp>

#include <charconv>
#include <cmath>
#include <limits>
#include <string_view>

#include <weft/core/base/check.hpp>
#include <weft/core/base/env.hpp>
#include <weft/launcher/cpus.hpp>
#include <weft/launcher/error.hpp>

namespace weft::inline v0::launcher {

namespace {

template <class... Args>
[[noreturn]] void usage(fmt::format_string<Args...> text, Args&&... args) {
  throw LaunchError(kExitUsage, fmt::format(text, std::forward<Args>(args)...));
}

template <class T>
std::optional<T> number(std::string_view text) {
  T value{};
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end) return std::nullopt;
  return value;
}

int parse_ranks(std::string_view flag, const std::string& text) {
  if (text == "auto") return automatic_ranks();
  const auto count = number<int>(text);
  if (!count || *count < 1)
    usage("{} {}: the number of ranks is a whole number of 1 or more, or auto", flag, text);
  if (*count > kMaxRanks)
    usage("{} {}: more ranks than one launcher starts; give at most {}", flag, text, kMaxRanks);
  return *count;
}

/// `origin` is the flag or the variable with its value, for the error.
double parse_seconds(const std::string& origin, const std::string& text, bool zero_allowed) {
  constexpr double kYear = 366.0 * 86400;
  const auto seconds = number<double>(text);
  const bool fits = seconds && *seconds <= kYear && (zero_allowed ? *seconds >= 0 : *seconds > 0);
  if (!fits)
    usage("{}: a time is a number of seconds{}, at most a year, such as 30 or 2.5", origin,
          zero_allowed ? "" : " above 0");
  return *seconds;
}

int resolve_ranks(const LaunchFlags& flags) {
  const int here = flags.ranks ? parse_ranks("-n", *flags.ranks) : 0;
  const int total = flags.num_processes ? parse_ranks("--num_processes", *flags.num_processes) : 0;
  if (here != 0 && total != 0 && here != total)
    usage("-n {} contradicts --num_processes {}: on one host they are the same; give one of them",
          *flags.ranks, *flags.num_processes);
  if (here != 0) return here;
  return total != 0 ? total : 1;
}

}  // namespace

LaunchOptions resolve(const LaunchFlags& flags) {
  LaunchOptions options;
  options.ranks = resolve_ranks(flags);
  if (flags.time_limit)
    options.time_limit =
        parse_seconds("--time_limit " + *flags.time_limit, *flags.time_limit, false);
  if (flags.grace)
    options.grace = parse_seconds("--grace " + *flags.grace, *flags.grace, true);
  else if (const auto grace = env::get("WEFT_GRACE"))
    options.grace = parse_seconds("WEFT_GRACE=" + *grace, *grace, true);

  const auto pass = [&](const char* flag, const char* variable,
                        const std::optional<std::string>& value) {
    if (!value) return;
    if (number<int>(*value).value_or(0) < 1)
      usage("{} {}: a whole number of seconds of 1 or more", flag, *value);
    options.environment.push_back(fmt::format("{}={}", variable, *value));
  };
  pass("--collective_timeout", "WEFT_COLLECTIVE_TIMEOUT", flags.collective_timeout);
  pass("--join_timeout", "WEFT_JOIN_TIMEOUT", flags.join_timeout);

  if (flags.command.empty())
    usage("no program to launch; write: launcher -n {} PROGRAM [ARGUMENTS]", options.ranks);
  options.command = flags.command;
  return options;
}

const std::vector<std::string>& launch_flag_names() {
  static const std::vector<std::string> names = {
      "nproc_per_node",     "num_processes", "time_limit", "grace",
      "collective_timeout", "join_timeout",  "help",       "version"};
  return names;
}

}  // namespace weft::inline v0::launcher
