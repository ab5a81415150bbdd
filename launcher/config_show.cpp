#include <weft/launcher/config_show.hpp>

#include <algorithm>
#include <array>

#include <weft/core/base/check.hpp>

namespace weft::inline v0::launcher {

namespace {

using Row = std::array<std::string, 3>;

/// On one line: a value has whatever bytes its author wanted.
std::string shown_value(const std::string& value) {
  std::string text;
  for (const char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    text += byte < 0x20 || byte == 0x7f ? fmt::format("\\x{:02x}", static_cast<int>(byte))
                                        : std::string(1, c);
  }
  return text;
}

/// Columns with two spaces in between.
std::string table(const std::vector<Row>& rows) {
  size_t widths[2] = {0, 0};
  for (const Row& row : rows)
    for (size_t i = 0; i < 2; ++i)
      widths[i] = std::max(widths[i], std::min<size_t>(row[i].size(), 48));
  std::string text;
  for (const Row& row : rows)
    text += fmt::format("{:<{}}  {:<{}}  {}\n", row[0], widths[0], row[1], widths[1], row[2]);
  return text;
}

}  // namespace

std::string show_file(const ConfigFile& file) {
  std::vector<Row> rows;
  for (const Setting& setting : file.settings) {
    std::string key = setting.spelling;
    const bool top_level = setting.origin.ends_with(":1");  // begins in the first column
    for (const std::string& full : keys_of(*setting.option))
      if (!top_level && (full.ends_with("." + key) || full.ends_with("_" + key))) key = full;
    rows.push_back({key, shown_value(setting.value), setting.origin});
  }
  return table(rows);
}

std::string show_resolved(const LaunchOptions& options) {
  std::vector<Row> rows;
  for (const Setting& setting : options.settings) {
    const Option& option = *setting.option;
    const bool given = setting.layer != Layer::initial;
    const bool remote = option.later != nullptr && option.section != Section::training;
    if (!given && (remote || option.section == Section::idle || option.kind == Kind::variable))
      continue;
    if (name_of(option) == "dry_run" || name_of(option) == "config_file") continue;
    rows.push_back({name_of(option), setting.value.empty() ? "-" : shown_value(setting.value),
                    shown_value(setting.origin)});
  }
  return table(rows);
}

}  // namespace weft::inline v0::launcher
