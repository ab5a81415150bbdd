// Joins the programs' reports into build/bench.json and one table, build/bench.md.
#include <fmt/core.h>

#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace {

std::string seconds_text(const nlohmann::json& value) {
  if (value.is_null()) return "";
  const double seconds = value.get<double>();
  if (seconds < 1e-6) return fmt::format("{:.0f} ns", seconds * 1e9);
  if (seconds < 1e-3) return fmt::format("{:.2f} us", seconds * 1e6);
  if (seconds < 1) return fmt::format("{:.2f} ms", seconds * 1e3);
  return fmt::format("{:.2f} s", seconds);
}

std::string figure_text(const nlohmann::json& row, const char* side) {
  if (row["unit"] != "bytes" || row[side].is_null()) return seconds_text(row[side]);
  return fmt::format("{:.1f} MB", row[side].get<double>() / 1e6);
}

std::string table_row(const nlohmann::json& row) {
  std::string ratio, interval, verdict;
  if (!row["ratio"].is_null()) {
    const double low = row["low"], high = row["high"];
    ratio = fmt::format("{:.2f}", row["ratio"].get<double>());
    interval = fmt::format("{:.2f} to {:.2f}", low, high);
    verdict = low > 1 ? "faster" : high < 1 ? "slower" : "undecided";
  }
  const std::string peer_name =
      row["peer_name"].is_null() ? "" : row["peer_name"].get<std::string>();
  return fmt::format("| {} | {} | {} | {} | {} | {} | {} | {} | {} |\n",
                     row["name"].get<std::string>(), row["threads"].get<int>(),
                     figure_text(row, "weft"), figure_text(row, "peer"), peer_name, ratio, interval,
                     row["pairs"].get<int>(), verdict);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::cerr << "usage: report OUT.json OUT.md REPORT.json...\n";
    return 2;
  }
  nlohmann::json all = nlohmann::json::array();
  for (int i = 3; i < argc; ++i) {
    std::ifstream file(argv[i]);
    if (!file) {
      std::cerr << "report: cannot read " << argv[i] << "\n";
      return 1;
    }
    for (const auto& row : nlohmann::json::parse(file)) all.push_back(row);
  }
  std::ofstream(argv[1]) << all.dump(1) << "\n";
  std::ofstream table(argv[2]);
  table << "# Benchmarks\n\nRatio: the peer's time over weft's, the median of interleaved pairs "
           "with its 95% "
           "interval; above 1, weft is faster.\n\n"
           "| row | threads | weft | peer | which | ratio | interval | pairs | verdict |\n"
           "| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n";
  for (const auto& row : all) table << table_row(row);
  std::cout << "written: " << argv[1] << ", " << argv[2] << "\n";
  return 0;
}
