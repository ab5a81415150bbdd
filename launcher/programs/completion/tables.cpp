#include <algorithm>

#include <weft/core/base/check.hpp>
#include <weft/launcher/commands.hpp>
#include <weft/launcher/option_table.hpp>
#include <weft/launcher/programs/completion/scripts.hpp>

namespace weft::inline v0::launcher {

namespace {

CompletionOption of_table(const Option& option) {
  CompletionOption result{.names = names_of(option), .meaning = option.help};
  result.takes_value = option.kind != Kind::flag;
  if (option.kind == Kind::choice) result.values = split(option.range, '|');
  if (option.kind == Kind::boolean) result.values = {"true", "false"};
  if (option.kind == Kind::ranks) result.values = {"auto"};
  const std::string value = option.value;
  result.takes_path = value == "FILE" || value == "FOLDER";
  return result;
}

/// "check=" or "config_file=FILE".
CompletionOption of_word(const std::string& word) {
  const size_t equals = word.find('=');
  CompletionOption result{.names = {word.substr(0, equals)}};
  result.takes_value = equals != std::string::npos;
  result.takes_path = word.ends_with("=FILE");
  if (result.names[0] == "help") result.names.emplace_back("h");
  return result;
}

}  // namespace

std::vector<CompletionCommand> completion_commands() {
  std::vector<CompletionCommand> commands;
  for (const Command& command : command_table()) {
    CompletionCommand result{command.name, command.meaning, split(command.words, ' '), {}};
    std::vector<std::string> own;
    for (const std::string& word : split(command.options, ' ')) {
      result.options.push_back(of_word(word));
      own.push_back(result.options.back().names[0]);
    }
    if (command.takes_launch_options)
      for (const Option& option : option_table())
        if (option.later == nullptr &&
            std::find(own.begin(), own.end(), name_of(option)) == own.end())
          result.options.push_back(of_table(option));
    commands.push_back(std::move(result));
  }
  return commands;
}

}  // namespace weft::inline v0::launcher
