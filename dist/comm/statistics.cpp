#include <weft/dist/comm/statistics.hpp>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include <weft/core/base/check.hpp>
#include <weft/core/base/env.hpp>
#include <weft/core/base/log.hpp>
#include <weft/dist/store/clock.hpp>

namespace weft::inline v0::dist::detail {

namespace {

constexpr const char* kColumns = "  rank  came last   median      99%\n";

std::string time_text(double seconds) {
  if (seconds < 1e-3) return fmt::format("{:.1f} us", seconds * 1e6);
  return seconds < 1 ? fmt::format("{:.1f} ms", seconds * 1e3) : fmt::format("{:.1f} s", seconds);
}

std::string row_text(const RankStatistics& its) {
  return fmt::format(
      "  {:>4}  {:>8.1f}%  {:>8}  {:>8}\n", its.rank,
      100.0 * static_cast<double>(its.last) / static_cast<double>(std::max<uint64_t>(its.calls, 1)),
      time_text(its.lateness_p50), time_text(its.lateness_p99));
}

std::string key_of(const std::string& group, int node) {
  return fmt::format("statistics/{}/{}", group, node);
}

}  // namespace

bool wants_statistics() { return env::get_flag("WEFT_STATS").value_or(false); }

std::string statistics_table(const std::string& group, const std::vector<RankStatistics>& rows) {
  std::string table = fmt::format(
      "group '{}': how late each rank came to {} collectives, after the first one there\n{}", group,
      rows.empty() ? 0 : rows[0].calls, kColumns);
  for (const RankStatistics& its : rows) table += row_text(its);
  return table;
}

std::string statistics_table(const std::string& group, const NodeLayout& layout,
                             const std::vector<std::optional<std::vector<RankStatistics>>>& rows) {
  uint64_t calls = 0;
  std::string lines, silent;
  std::vector<int> told;
  for (int node = 0; node < layout.nodes(); ++node) {
    const auto& its = rows[static_cast<size_t>(node)];
    if (!its) {
      silent += (silent.empty() ? "" : ", ") + layout.name_of_node(node);
      continue;
    }
    const auto& host = layout.hosts[static_cast<size_t>(node)];
    lines += fmt::format("  host {}\n", host);
    for (const RankStatistics& row : *its) {
      calls = std::max(calls, row.calls);
      told.push_back(row.rank);
      lines +=
          its->size() == 1 ? fmt::format("  {:>4}  alone on its host\n", row.rank) : row_text(row);
    }
  }
  std::sort(told.begin(), told.end());
  return fmt::format(
      "group '{}': how late each rank came to {} collectives, after the first one on its host; {} "
      "of {}{}\n{}{}",
      group, calls, list_ranks(told), layout.ranks(),
      silent.empty() ? "" : "; not told in time by " + silent, kColumns, lines);
}

std::string pack_statistics(const std::vector<RankStatistics>& rows) {
  return {reinterpret_cast<const char*>(rows.data()), rows.size() * sizeof(RankStatistics)};
}

std::optional<std::vector<RankStatistics>> unpack_statistics(std::string_view bytes) {
  if (bytes.empty() || bytes.size() % sizeof(RankStatistics) != 0) return std::nullopt;
  std::vector<RankStatistics> rows(bytes.size() / sizeof(RankStatistics));
  std::memcpy(rows.data(), bytes.data(), bytes.size());
  return rows;
}

void tell_statistics(Store& store, const std::string& group, const NodeLayout& layout, int rank,
                     const std::vector<RankStatistics>& rows, double patience) noexcept {
  const auto home = static_cast<size_t>(layout.node_of[static_cast<size_t>(rank)]);
  try {
    if (rank != 0)
      return store.set(key_of(group, static_cast<int>(home)), pack_statistics(rows), patience);
    const TimePoint deadline = deadline_after(patience);
    std::vector<std::optional<std::vector<RankStatistics>>> all(layout.members.size());
    all[home] = rows;
    for (size_t node = 0; node < all.size(); ++node) {
      if (node == home) continue;
      try {
        const double left = std::max(0.0, -seconds_since(deadline));
        const std::string key = key_of(group, static_cast<int>(node));
        all[node] = unpack_statistics(store.get(key, left));
      } catch (const CommError&) {
        continue;  // the table says that this host has not told
      }
    }
    std::fputs(statistics_table(group, layout, all).c_str(), stderr);
  } catch (const std::exception& error) {
    logging::warn(fmt::format("group '{}': no statistics: {}", group, error.what()));
  }
}

}  // namespace weft::inline v0::dist::detail
