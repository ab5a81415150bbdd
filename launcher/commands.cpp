#include <weft/launcher/commands.hpp>

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include <weft/core/base/check.hpp>
#include <weft/core/base/nearest.hpp>

namespace weft::inline v0::launcher {

namespace {

constexpr const char* kPrefix = "weft-";

constexpr Command kCommands[] = {
    {"launch", "start a program as several ranks, on this host or on many", "", "help version",
     true},
    {"config", "make, show and check the configuration that launch reads",
     "default set update show validate",
     "config_file=FILE mixed_precision= overwrite resolved help", true},
    {"test", "check that everything works here: collectives, training, a rank that is killed", "",
     "check= check_limit= list quick break= help", true},
    {"env", "what a bug report needs: versions, machine, limits, configuration", "",
     "json config_file=FILE help", false},
    {"completion", "print what a shell needs to complete the launcher's words", "bash zsh fish",
     "help", false},
    {"help", "this list; help COMMAND, with examples; help options: every option of launch",
     "options launch config test env completion", "", false},
};

}  // namespace

std::vector<std::string> command_folders() {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return {};
  const auto above = self.parent_path().parent_path();
  return {above / "libexec" / "weft", above / "libexec"};
}

std::span<const Command> command_table() { return kCommands; }

std::string commands_help(const std::vector<std::string>& folders) {
  std::string text =
      "weft's launcher. Commands, each with a page of its own (launcher help COMMAND):\n\n";
  const std::vector<std::string> there = all_commands(folders);
  std::vector<std::string> others = there;
  for (const Command& command : kCommands) {
    if (std::erase(others, command.name) == 0) continue;
    text += fmt::format("  {:<12}  {}\n", command.name, command.meaning);
  }
  for (const std::string& other : others)
    text += fmt::format("  {:<12}  {}{}\n", other, kPrefix, other);
  return text +
         "\n  launcher -n 4 ./model_train --epochs 3     starts 4 ranks\n"
         "  launcher config                            asks once, and is used from then on\n"
         "  launcher test                              shows whether everything works\n";
}

std::string find_command(const std::string& name, const std::vector<std::string>& folders) {
  if (name.empty() || name.find('/') != std::string::npos) return {};
  for (const std::string& folder : folders) {
    const std::string path = folder + "/" + kPrefix + name;
    if (::access(path.c_str(), X_OK) == 0) return path;
  }
  return {};
}

std::vector<std::string> all_commands(const std::vector<std::string>& folders) {
  std::set<std::string> names = {"launch", "help"};
  for (const std::string& folder : folders) {
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
      const std::string file = entry.path().filename();
      if (file.starts_with(kPrefix)) names.insert(file.substr(std::string(kPrefix).size()));
    }
  }
  return {names.begin(), names.end()};
}

std::string likely_meant(const std::string& text, const std::vector<std::string>& candidates) {
  std::vector<std::string> similar;
  for (const std::string& candidate : candidates)
    if (!text.empty() && candidate.starts_with(text.front())) similar.push_back(candidate);
  // A word that was cut short means one that goes on, however far: --nproc, --nprocs.
  const std::string begin = text.ends_with('s') ? text.substr(0, text.size() - 1) : text;
  std::vector<std::string> longer;
  for (const std::string& candidate : similar)
    if (begin.size() > 2 && candidate.starts_with(begin)) longer.push_back(candidate);
  if (!longer.empty()) return weft::detail::nearest(text, longer);
  return weft::detail::nearest(text, similar, std::max<size_t>(2, text.size() / 2));
}

std::string unknown_command_text(const std::string& name, const std::vector<std::string>& commands,
                                 bool for_help) {
  std::string text = fmt::format("no command '{}'", name);
  if (const std::string meant = likely_meant(name, commands); !meant.empty()) {
    text += fmt::format(", did you mean '{}'?", meant);
  } else {
    text += "; there are";
    for (const std::string& command : commands) text += " " + command;
    text += ".";
  }
  if (for_help) return text;
  return text + fmt::format(" To launch a program of that name: launcher launch {}", name);
}

}  // namespace weft::inline v0::launcher
