#include <weft/dist/comm/layout.hpp>

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <numeric>

namespace weft::inline v0::dist::detail {

int NodeLayout::fewest() const {
  size_t count = members[0].size();
  for (const auto& its : members) count = std::min(count, its.size());
  return static_cast<int>(count);
}

int NodeLayout::most() const {
  size_t count = 0;
  for (const auto& its : members) count = std::max(count, its.size());
  return static_cast<int>(count);
}

int NodeLayout::local_rank(int rank) const {
  const auto& its = members[static_cast<size_t>(node_of[static_cast<size_t>(rank)])];
  return static_cast<int>(std::find(its.begin(), its.end(), rank) - its.begin());
}

std::string NodeLayout::name_of_node(int node) const {
  const auto& its = members[static_cast<size_t>(node)];
  return fmt::format("host {} ({})", hosts[static_cast<size_t>(node)], list_ranks(its));
}

NodeLayout make_layout(const std::vector<int>& node_of, const std::vector<std::string>& host_of) {
  NodeLayout layout;
  std::map<int, int> numbers;
  for (size_t rank = 0; rank < node_of.size(); ++rank) {
    const auto [place, is_new] = numbers.try_emplace(node_of[rank], layout.nodes());
    if (is_new) {
      layout.members.emplace_back();
      layout.hosts.push_back(host_of[rank]);
    }
    layout.node_of.push_back(place->second);
    layout.members[static_cast<size_t>(place->second)].push_back(static_cast<int>(rank));
  }
  layout.world.resize(node_of.size());
  std::iota(layout.world.begin(), layout.world.end(), 0);
  return layout;
}

NodeLayout subset_of(const NodeLayout& layout, const std::vector<int>& members) {
  std::vector<int> node_of, world;
  std::vector<std::string> host_of;
  for (const int rank : members) {
    const int node = layout.node_of[static_cast<size_t>(rank)];
    node_of.push_back(node);
    host_of.push_back(layout.hosts[static_cast<size_t>(node)]);
    world.push_back(layout.world[static_cast<size_t>(rank)]);
  }
  NodeLayout result = make_layout(node_of, host_of);
  result.world = std::move(world);
  return result;
}

std::string list_ranks(const std::vector<int>& ranks) {
  if (ranks.empty()) return "none";
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (size_t i = 0; i < ranks.size();) {
    size_t last = i;
    while (last + 1 < ranks.size() && ranks[last + 1] == ranks[last] + 1) ++last;
    if (last == i + 1) --last;  // two in a row are no range
    text += fmt::format("{}{}", i == 0 ? "" : ", ", ranks[i]);
    if (last > i) text += fmt::format(" to {}", ranks[last]);
    i = last + 1;
  }
  return text;
}

}  // namespace weft::inline v0::dist::detail
