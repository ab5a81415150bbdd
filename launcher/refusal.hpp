// Errors about a setting: they name it by where it was given.
#pragma once

#include <utility>

#include <weft/core/base/check.hpp>
#include <weft/launcher/error.hpp>
#include <weft/launcher/options.hpp>

namespace weft::inline v0::launcher {

/// Throws for a text that begins with what `first` shows, which `text` goes on with. Where that is
/// a place in a file, nothing may come before it: a ConfigError, else a LaunchError (exit code 2).
template <class... Args>
[[noreturn]] void refuse_setting(const Setting& first, fmt::format_string<Args...> text,
                                 Args&&... args) {
  const std::string whole = shown(first) + fmt::format(text, std::forward<Args>(args)...);
  if (first.layer == Layer::config) throw ConfigError(whole);
  throw LaunchError(kExitUsage, whole);
}

}  // namespace weft::inline v0::launcher
