// "Did you mean …?"
#pragma once

#include <string>
#include <vector>

#include <weft/core/base/api.hpp>

namespace weft::inline v0::detail {

/// The candidate with the smallest edit distance to `text`; empty where there is none.
WEFT_API std::string nearest(const std::string& text, const std::vector<std::string>& candidates);

}  // namespace weft::inline v0::detail
