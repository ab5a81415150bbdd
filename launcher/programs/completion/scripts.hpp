// Completion of the launcher's words in a shell, generated from the tables of commands and options,
// so that it knows what this version knows.
#pragma once

#include <string>
#include <vector>

namespace weft::inline v0::launcher {

/// A word that begins with dashes.
struct CompletionOption {
  std::vector<std::string> names = {};  ///< without dashes; the first is its name
  std::string meaning = {};
  bool takes_value = false, takes_path = false;
  std::vector<std::string> values = {};  ///< to choose from; none: anything
};

struct CompletionCommand {
  std::string name = {}, meaning = {};
  std::vector<std::string> words = {};
  std::vector<CompletionOption> options = {};
};

/// Options of later versions are left out: starting a program with them is an error.
std::vector<CompletionCommand> completion_commands();

std::string bash_completion();
std::string zsh_completion();
std::string fish_completion();

}  // namespace weft::inline v0::launcher
