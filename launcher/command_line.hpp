// Parsing launch's command line, from the table of options.
#pragma once

#include <string>
#include <vector>

#include <weft/launcher/options.hpp>

namespace weft::inline v0::launcher {

/// Flags up to the program's name, or `--`; what follows is the program and its arguments, byte for
/// byte. Throws LaunchError (exit code 2) for a flag that is unknown or lacks its value.
CommandLine parse_command_line(const std::vector<std::string>& arguments);

}  // namespace weft::inline v0::launcher
