// Lists of hosts and counts as SLURM writes them into the environment.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace weft::inline v0::dist::detail {

inline constexpr size_t kMaxNodes = 65536;        ///< hosts or counts that one list may stand for
inline constexpr size_t kMaxHostName = 255;       ///< bytes of one name
inline constexpr size_t kMaxNodelist = 1u << 20;  ///< bytes of the list itself

/// The hosts of `n[01-03,7],m2` in order: n01 n02 n03 n7 m2. A name may have several brackets
/// (`r[0-1]n[0-3]`), the last one turning fastest; numbers keep the width of their range's first.
/// `origin` is where the text comes from, for the errors. Throws ArgumentError with the column of
/// what is wrong, or where the list is empty or stands for more than the limits above.
std::vector<std::string> expand_nodelist(std::string_view text, std::string_view origin);

/// The counts of `2(x3),1`: 2 2 2 1. Throws as expand_nodelist; a count is 1 to 1,000,000.
std::vector<int> expand_counts(std::string_view text, std::string_view origin);

}  // namespace weft::inline v0::dist::detail
