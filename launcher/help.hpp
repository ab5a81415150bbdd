#pragma once

#include <string>

namespace weft::inline v0::launcher {

/// The text of `launcher --help`: the options that work, section by section.
std::string launch_help();

/// The text of `launcher help options`: all of them, with their spellings, variables and keys.
std::string options_help();

}  // namespace weft::inline v0::launcher
