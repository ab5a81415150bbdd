#include <weft/core/base/log.hpp>

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <iterator>
#include <memory>

#include <weft/core/base/check.hpp>
#include <weft/core/base/env.hpp>

namespace weft::inline v0::logging {

namespace {

constexpr const char* kNames[] = {"trace", "debug", "info", "warn", "error", "off"};

spdlog::level::level_enum to_spdlog(Level level) {
  constexpr spdlog::level::level_enum kLevels[] = {spdlog::level::trace, spdlog::level::debug,
                                                   spdlog::level::info,  spdlog::level::warn,
                                                   spdlog::level::err,   spdlog::level::off};
  return kLevels[static_cast<int>(level)];
}

Level level_from_environment() {
  const auto text = env::get("WEFT_LOG_LEVEL");
  if (!text) return Level::warn;
  for (size_t i = 0; i < std::size(kNames); ++i)
    if (*text == kNames[i]) return static_cast<Level>(i);
  detail::fail<ArgumentError>(
      "environment: WEFT_LOG_LEVEL={} is no level; use trace, debug, info, warn, error or off",
      *text);
}

spdlog::logger& logger() {
  static const std::unique_ptr<spdlog::logger> instance = [] {
    auto made =
        std::make_unique<spdlog::logger>("weft", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    const auto rank = env::get("RANK");
    made->set_pattern(rank ? "weft %l [rank " + *rank + "] %v" : std::string("weft %l %v"));
    made->set_level(to_spdlog(level_from_environment()));
    return made;
  }();
  return *instance;
}

}  // namespace

void set_level(Level level) { logger().set_level(to_spdlog(level)); }

Level level() {
  const auto now = logger().level();
  for (size_t i = 0; i < std::size(kNames); ++i)
    if (to_spdlog(static_cast<Level>(i)) == now) return static_cast<Level>(i);
  return Level::off;
}

void debug(std::string_view text) { logger().debug(text); }
void info(std::string_view text) { logger().info(text); }
void warn(std::string_view text) { logger().warn(text); }
void error(std::string_view text) { logger().error(text); }

}  // namespace weft::inline v0::logging
