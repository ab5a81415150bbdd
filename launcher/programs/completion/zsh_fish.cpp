#include <algorithm>

#include <weft/core/base/check.hpp>
#include <weft/launcher/programs/completion/scripts.hpp>

namespace weft::inline v0::launcher {

namespace {

std::string dashed(const std::string& name) { return (name.size() == 1 ? "-" : "--") + name; }

std::string other_spelling(std::string name) {
  std::replace(name.begin(), name.end(), '_', '-');
  return name;
}

/// In single quotes, for zsh and fish.
std::string quoted(const std::string& text, const char* quote) {
  std::string result = "'";
  for (const char c : text) result += c == '\'' ? quote : std::string(1, c);
  return result + "'";
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

/// The text of an _arguments specification may have no bare colons or brackets.
std::string for_arguments(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (c == ':' || c == '[' || c == ']' || c == '\\') result += '\\';
    result += c;
  }
  return result;
}

std::string zsh_option(const CompletionOption& option) {
  std::string action;
  if (!option.values.empty())
    action = ":value:(" + joined(option.values) + ")";
  else if (option.takes_path)
    action = ":file:_files";
  else if (option.takes_value)
    action = ":value: ";
  std::string text;
  const std::string meaning =
      option.meaning.empty() ? "" : "[" + for_arguments(option.meaning) + "]";
  for (const std::string& name : option.names) {
    std::vector<std::string> spellings = {name};
    if (other_spelling(name) != name) spellings.push_back(other_spelling(name));
    for (const std::string& spelling : spellings) {
      // "=": the value may stand behind = or as the next word; a short flag takes the next word.
      const char* end = option.takes_value ? (spelling.size() == 1 ? "+" : "=") : "";
      text += " " + quoted(dashed(spelling) + end + meaning + action, "'\\''");
    }
  }
  return text;
}

}  // namespace

std::string zsh_completion() {
  std::string list, cases;
  for (const CompletionCommand& command : completion_commands()) {
    list += "    " + quoted(for_arguments(command.name) + ":" + command.meaning, "'\\''") + "\n";
    std::string rest;
    if (command.name == "launch")
      rest = " '1:program:_files' '*::arguments:_files'";
    else if (!command.words.empty())
      rest = " '1:word:(" + joined(command.words) + ")' '*:file:_files'";
    std::string options;
    for (const CompletionOption& option : command.options) options += zsh_option(option);
    cases += fmt::format("    {}) _arguments -S{}{} ;;\n", command.name, options, rest);
  }
  return "#compdef launcher\n# zsh completion for weft's launcher; made by: launcher completion "
         "zsh\n"
         "_launcher() {\n  local -a commands\n  commands=(\n" +
         list +
         "  )\n"
         "  local command=launch\n"
         "  if (( CURRENT == 2 )) && [[ $words[2] != -* ]]; then\n"
         "    _describe command commands\n    _files\n    return\n  fi\n"
         "  if [[ -n ${commands[(r)$words[2]:*]} ]]; then\n"
         "    command=$words[2]\n    shift words\n    (( CURRENT-- ))\n  fi\n"
         "  case $command in\n" +
         cases +
         "  esac\n}\n"
         "if [[ $funcstack[1] == _launcher ]]; then _launcher \"$@\"; else compdef _launcher "
         "launcher; fi\n";
}

std::string fish_completion() {
  const std::vector<CompletionCommand> commands = completion_commands();
  std::vector<std::string> names;
  for (const CompletionCommand& command : commands) names.push_back(command.name);
  const std::string none = fmt::format("'not __fish_seen_subcommand_from {}'", joined(names));
  std::string text = "# fish completion for weft's launcher; made by: launcher completion fish\n";
  for (const CompletionCommand& command : commands) {
    text += fmt::format("complete -c launcher -n {} -a {} -d {}\n", none, command.name,
                        quoted(command.meaning, "\\'"));
    const std::string here = command.name == "launch"
                                 ? fmt::format(
                                       "'not __fish_seen_subcommand_from {}; or "
                                       "__fish_seen_subcommand_from launch'",
                                       joined(names))
                                 : fmt::format("'__fish_seen_subcommand_from {}'", command.name);
    if (!command.words.empty())
      text += fmt::format("complete -c launcher -n {} -f -a '{}'\n", here, joined(command.words));
    for (const CompletionOption& option : command.options) {
      std::string line = fmt::format("complete -c launcher -n {}", here);
      for (const std::string& name : option.names) {
        line += (name.size() == 1 ? " -s " : " -l ") + name;
        if (other_spelling(name) != name) line += " -l " + other_spelling(name);
      }
      if (option.takes_path)
        line += " -r -F";
      else if (option.takes_value)
        line += " -x";
      if (!option.values.empty()) line += " -a '" + joined(option.values) + "'";
      if (!option.meaning.empty()) line += " -d " + quoted(option.meaning, "\\'");
      text += line + "\n";
    }
  }
  return text;
}

}  // namespace weft::inline v0::launcher
