#include <weft/launcher/programs/env/facts.hpp>

#include <unistd.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include <weft/core/base/check.hpp>

namespace weft::inline v0::env_report {

namespace {

std::string trimmed(const std::string& text) {
  const size_t start = text.find_first_not_of(" \t");
  if (start == std::string::npos) return {};
  return text.substr(start, text.find_last_not_of(" \t\r\n") - start + 1);
}

}  // namespace

std::vector<std::string> Section::values(std::string_view name) const {
  for (const Fact& fact : facts)
    if (fact.name == name) return fact.values;
  return {};
}

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return trimmed(line);
}

std::string field_of(const std::string& path, std::string_view name) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(':');
    if (colon != std::string::npos && trimmed(line.substr(0, colon)) == name)
      return trimmed(line.substr(colon + 1));
  }
  return {};
}

std::string bytes_text(double bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  size_t unit = 0;
  while (bytes >= 1024 && unit + 1 < std::size(kUnits)) {
    bytes /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{:.0f} B", bytes) : fmt::format("{:.4g} {}", bytes, kUnits[unit]);
}

std::vector<std::string> entries(const std::string& folder, std::string_view prefix) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error))
    if (std::string name = entry.path().filename(); name.starts_with(prefix))
      names.push_back(std::move(name));
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<Section> all_sections(const std::string& config_file) {
  std::vector<std::string> environment;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry)
    environment.emplace_back(*entry);
  return {weft_section(),
          library_section(),
          system_section("/"),
          cpu_section("/"),
          memory_section("/"),
          gpu_section("/"),
          network_section("/"),
          limit_section(),
          tool_section(),
          variable_section(environment),
          config_section(config_file)};
}

std::string as_text(const std::vector<Section>& sections) {
  size_t width = 0;
  for (const Section& section : sections)
    for (const Fact& fact : section.facts) width = std::max(width, fact.name.size());
  width = std::min<size_t>(width, 28);
  std::string text;
  for (const Section& section : sections) {
    text += section.title + "\n";
    for (const Fact& fact : section.facts) {
      std::string name = fact.name;
      for (const std::string& value : fact.values) {
        text += fmt::format("  {:<{}}  {}\n", name, width, value);
        name.clear();
      }
    }
  }
  return text;
}

std::string as_json(const std::vector<Section>& sections) {
  nlohmann::ordered_json all;
  for (const Section& section : sections) {
    auto& object = all[section.title] = nlohmann::ordered_json::object();
    for (const Fact& fact : section.facts) {
      if (fact.values.size() == 1)
        object[fact.name] = fact.values[0];
      else
        object[fact.name] = fact.values;
    }
  }
  // What is no UTF-8 (in a variable, say) must not keep the rest from being shown.
  return all.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace weft::inline v0::env_report
