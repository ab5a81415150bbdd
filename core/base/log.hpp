// Log lines to stderr, with level, time and rank; the level is WEFT_LOG_LEVEL (default: warn).
#pragma once

#include <string_view>

#include <weft/core/base/api.hpp>

namespace weft::inline v0::logging {

enum class Level { trace, debug, info, warn, error, off };

WEFT_API void set_level(Level level);
WEFT_API Level level();

WEFT_API void debug(std::string_view text);
WEFT_API void info(std::string_view text);
WEFT_API void warn(std::string_view text);
WEFT_API void error(std::string_view text);

}  // namespace weft::inline v0::logging
