// What `launcher env` reports, section by section. Nothing here needs libweft: where it cannot be
// loaded, the report says why.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace weft::inline v0::env_report {

struct Fact {
  std::string name;
  std::vector<std::string> values;  ///< one line each
};

struct Section {
  std::string title;
  std::vector<Fact> facts = {};

  void add(const std::string& name, const std::string& value) { facts.push_back({name, {value}}); }
  void add_list(const std::string& name, std::vector<std::string> values) {
    facts.push_back({name, std::move(values)});
  }
  /// The values of the fact; none where there is no such fact.
  std::vector<std::string> values(std::string_view name) const;
};

/// `root` is "/" but in tests: /proc and /sys are read below it.
Section weft_section();
Section library_section();
Section system_section(const std::string& root);
Section cpu_section(const std::string& root);
Section memory_section(const std::string& root);
Section gpu_section(const std::string& root);
Section network_section(const std::string& root);
Section limit_section();
Section tool_section();
Section variable_section(const std::vector<std::string>& environment);
/// `config_file`: as --config_file; empty: the default one.
Section config_section(const std::string& config_file);

/// The values of those whose name says that they are secret are not shown.
std::string masked(const std::string& name, const std::string& value);

std::vector<Section> all_sections(const std::string& config_file);

std::string as_text(const std::vector<Section>& sections);
std::string as_json(const std::vector<Section>& sections);

// Reading /proc and /sys.

/// The file's first line, without blanks at its ends; empty where it cannot be read.
std::string first_line(const std::string& path);
/// The text behind "NAME:" in a file such as /proc/cpuinfo; empty where there is none.
std::string field_of(const std::string& path, std::string_view name);
/// "1.5 GiB" of a number of bytes.
std::string bytes_text(double bytes);
/// The names in a folder that begin with `prefix`, sorted.
std::vector<std::string> entries(const std::string& folder, std::string_view prefix = "");

}  // namespace weft::inline v0::env_report
