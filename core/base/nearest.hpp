// "Did you mean …?"
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <weft/core/base/api.hpp>

namespace weft::inline v0::detail {

/// The candidate with the smallest edit distance to `text`; empty where there is none, or none
/// within `most` edits.
WEFT_API std::string nearest(const std::string& text, const std::vector<std::string>& candidates,
                             size_t most = SIZE_MAX);

}  // namespace weft::inline v0::detail
