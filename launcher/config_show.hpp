// What a configuration says, and what all sources together say, as text.
#pragma once

#include <string>

#include <weft/launcher/config.hpp>

namespace weft::inline v0::launcher {

/// The values of a file, a line for each: key, value, place.
std::string show_file(const ConfigFile& file);

/// Every option with its value and origin, a line for each; those that later versions bring only
/// where they are given.
std::string show_resolved(const LaunchOptions& options);

}  // namespace weft::inline v0::launcher
