#include <weft/launcher/commands.hpp>

#include <unistd.h>

#include <filesystem>
#include <set>

#include <weft/core/base/check.hpp>
#include <weft/core/base/nearest.hpp>

namespace weft::inline v0::launcher {

namespace {

constexpr const char* kPrefix = "weft-";

}  // namespace

std::vector<std::string> command_folders() {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return {};
  const auto above = self.parent_path().parent_path();
  return {above / "libexec" / "weft", above / "libexec"};
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
  return weft::detail::nearest(text, similar);
}

std::string unknown_command_text(const std::string& name,
                                 const std::vector<std::string>& commands) {
  std::string text = fmt::format("no command '{}'", name);
  if (const std::string meant = likely_meant(name, commands); !meant.empty()) {
    text += fmt::format(", did you mean '{}'?", meant);
  } else {
    text += "; there are";
    for (const std::string& command : commands) text += " " + command;
    text += ".";
  }
  return text + fmt::format(" To launch a program of that name: launcher launch {}", name);
}

}  // namespace weft::inline v0::launcher
