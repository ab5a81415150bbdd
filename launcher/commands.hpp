// Commands beside launch: executables of their own, weft-<command>, as the launcher itself links no
// tensor.
#pragma once

#include <span>
#include <string>
#include <vector>

namespace weft::inline v0::launcher {

/// A command of weft's own, for help and completions.
struct Command {
  const char* name;
  const char* meaning;  ///< one line
  const char* words;    ///< what may stand first behind it: subcommands, by blanks
  /// Its own options without dashes, by blanks; NAME= takes a value, NAME=FILE a file's path.
  const char* options;
  bool takes_launch_options;
};

std::span<const Command> command_table();

/// The text of `launcher help`: a line for each command that there is.
std::string commands_help(const std::vector<std::string>& folders);

/// The folders with weft-<command>: PREFIX/libexec/weft and build/libexec, from where the launcher
/// itself lies.
std::vector<std::string> command_folders();

/// The path of weft-<name> in `folders`, or an empty text.
std::string find_command(const std::string& name, const std::vector<std::string>& folders);

/// The names of all commands there are, launch and help included, sorted.
std::vector<std::string> all_commands(const std::vector<std::string>& folders);

/// The candidate that `text` is the beginning of, else the one that a slip of the finger has most
/// likely turned into it; empty where none begins with the same letter.
std::string likely_meant(const std::string& text, const std::vector<std::string>& candidates);

/// "no command ..." with the one that is likely meant, and how to launch a program of that name.
/// With `for_help` nothing is launched, and nothing said of it.
std::string unknown_command_text(const std::string& name, const std::vector<std::string>& commands,
                                 bool for_help = false);

}  // namespace weft::inline v0::launcher
