// Which ranks of a group are on which node.
#pragma once

#include <string>
#include <vector>

namespace weft::inline v0::dist::detail {

struct NodeLayout {
  std::vector<int> node_of;               ///< by rank
  std::vector<std::vector<int>> members;  ///< by node: its ranks, ascending
  std::vector<std::string> hosts;         ///< by node: a name for people
  std::vector<int> world;                 ///< by rank: its rank in the job

  int nodes() const { return static_cast<int>(members.size()); }
  int ranks() const { return static_cast<int>(node_of.size()); }
  /// The fewest ranks that any node has: so many pairs of processes can work side by side.
  int fewest() const;
  int most() const;
  /// Where `rank` is among the ranks of its node.
  int local_rank(int rank) const;
  /// "host b (ranks 2 to 5)".
  std::string name_of_node(int node) const;
};

/// The layout of all ranks of a job. `node_of[rank]` are any numbers; nodes are ordered by their
/// first ranks. `host_of[rank]` names the rank's host.
NodeLayout make_layout(const std::vector<int>& node_of, const std::vector<std::string>& host_of);

/// That of `members` alone, who are the new ranks 0, 1, …
NodeLayout subset_of(const NodeLayout& layout, const std::vector<int>& members);

/// "ranks 0, 2 to 5", "rank 3", "none".
std::string list_ranks(const std::vector<int>& ranks);

}  // namespace weft::inline v0::dist::detail
