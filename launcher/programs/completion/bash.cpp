#include <algorithm>
#include <map>

#include <weft/core/base/check.hpp>
#include <weft/launcher/programs/completion/scripts.hpp>

namespace weft::inline v0::launcher {

namespace {

std::string dashed(const std::string& name) { return (name.size() == 1 ? "-" : "--") + name; }

std::string joined(const std::vector<std::string>& words, const std::string& between) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : between) + word;
  return text;
}

/// Options by what may stand behind them: "|"-joined spellings, each with `_` and with `-`.
using Groups = std::map<std::string, std::vector<std::string>>;

void add_to(Groups& groups, const std::string& key, const CompletionOption& option) {
  for (const std::string& name : option.names) {
    std::string spelled = dashed(name);
    std::vector<std::string>& group = groups[key];
    const auto add = [&] {
      if (std::find(group.begin(), group.end(), spelled) == group.end()) group.push_back(spelled);
    };
    add();
    std::replace(spelled.begin() + 2, spelled.end(), '_', '-');
    add();
  }
}

// What does not depend on the tables. COMP_WORDS has `=` as a word of its own.
constexpr const char* kWalk = R"(_weft_launcher() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} command= i word
  COMPREPLY=()
  if [[ $current == "=" ]]; then
    current=
  elif [[ $previous == "=" ]]; then
    previous=${COMP_WORDS[COMP_CWORD-2]}
  fi
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=${COMP_WORDS[i]}
    if [[ -z $command && " $_weft_commands " == *" $word "* ]]; then
      command=$word
      continue
    fi
    [[ -n $command ]] || command=launch
    if [[ $word == -- && $command == launch ]]; then
      compopt -o default
      return
    elif [[ $word == -* ]]; then
      if [[ ${COMP_WORDS[i+1]} == "=" ]]; then
        ((i += 2))
      elif _weft_takes_value "$word"; then
        ((i += 1))
      fi
    elif [[ $command == launch ]]; then
      compopt -o default  # the program's own arguments
      return
    fi
  done
  if [[ $previous == -* ]] && _weft_takes_value "$previous"; then
    _weft_values "$previous" "$current"
    return
  fi
  local words
  if [[ $current == -* ]]; then
    words=$(_weft_options "${command:-launch}")
    [[ $current != --*-* ]] || words=${words//_/-}
  elif [[ -z $command ]]; then
    words=$_weft_commands
  else
    words=$(_weft_words "$command")
  fi
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  if [[ $current != -* && (-z $command || $command == launch) ]]; then
    compopt -o filenames
    COMPREPLY+=($(compgen -f -- "$current"))
  fi
}
complete -F _weft_launcher launcher
)";

}  // namespace

std::string bash_completion() {
  const std::vector<CompletionCommand> commands = completion_commands();
  std::vector<std::string> names;
  Groups with_value, by_value;
  std::string options, words;
  for (const CompletionCommand& command : commands) {
    names.push_back(command.name);
    std::vector<std::string> spellings;
    for (const CompletionOption& option : command.options) {
      spellings.push_back(dashed(option.names[0]));
      if (!option.takes_value) continue;
      add_to(with_value, "", option);
      if (option.takes_path) add_to(by_value, "compgen -f", option);
      if (!option.values.empty())
        add_to(by_value, fmt::format("compgen -W \"{}\"", joined(option.values, " ")), option);
    }
    options += fmt::format("    {}) echo \"{}\" ;;\n", command.name, joined(spellings, " "));
    words += fmt::format("    {}) echo \"{}\" ;;\n", command.name, joined(command.words, " "));
  }
  std::string values;
  for (const auto& [action, spellings] : by_value)
    values +=
        fmt::format("    {}) COMPREPLY=($({} -- \"$2\")) ;;\n", joined(spellings, "|"), action);
  return "# bash completion for weft's launcher; made by: launcher completion bash\n" +
         fmt::format("_weft_commands=\"{}\"\n", joined(names, " ")) +
         fmt::format(
             "_weft_takes_value() {{\n  case $1 in\n    {}) return 0 ;;\n  esac\n"
             "  return 1\n}}\n",
             joined(with_value[""], "|")) +
         "_weft_values() {\n  case $1 in\n" + values + "  esac\n}\n" +
         "_weft_options() {\n  case $1 in\n" + options + "  esac\n}\n" +
         "_weft_words() {\n  case $1 in\n" + words + "  esac\n}\n" + kWalk;
}

}  // namespace weft::inline v0::launcher
