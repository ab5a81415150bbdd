// The table that says how late a group's ranks came, printed where WEFT_STATS asks for it.
//
// Note [One table]
// Clocks of several hosts are not alike, so ranks are compared on each host by itself. At a group's
// end the first rank of each host leaves its rows in the store, and rank 0 prints all that have
// come within a moment: a host that is slow to end, or will not, is named as missing from the table
// rather than waited for.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <weft/dist/comm/call.hpp>
#include <weft/dist/comm/layout.hpp>
#include <weft/dist/store/store.hpp>

namespace weft::inline v0::dist::detail {

/// Whether WEFT_STATS asks for the table.
bool wants_statistics();

/// The table of a group on one host; `rows` are those of all its ranks.
std::string statistics_table(const std::string& group, const std::vector<RankStatistics>& rows);

/// The rows of one host as a value of the store, and back; nothing for bytes that are no such
/// value.
std::string pack_statistics(const std::vector<RankStatistics>& rows);
std::optional<std::vector<RankStatistics>> unpack_statistics(std::string_view bytes);

/// The table of a group on several hosts. `rows[n]` are those of node n, nothing where it did not
/// tell.
std::string statistics_table(const std::string& group, const NodeLayout& layout,
                             const std::vector<std::optional<std::vector<RankStatistics>>>& rows);

/// What the first rank of each node does at the end of the group `group`, of which it is `rank`:
/// tells its node's `rows`, or, as rank 0, waits for the others' for `patience` seconds at most and
/// prints the table on stderr.
void tell_statistics(Store& store, const std::string& group, const NodeLayout& layout, int rank,
                     const std::vector<RankStatistics>& rows, double patience) noexcept;

}  // namespace weft::inline v0::dist::detail
