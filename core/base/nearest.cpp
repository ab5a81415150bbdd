#include <weft/core/base/nearest.hpp>

#include <algorithm>
#include <numeric>

namespace weft::inline v0::detail {

namespace {

size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, diagonal + 1});
    }
  }
  return row.back();
}

}  // namespace

std::string nearest(const std::string& text, const std::vector<std::string>& candidates,
                    size_t most) {
  const std::string* best = nullptr;
  size_t least = most;
  for (const std::string& candidate : candidates) {
    const size_t distance = edit_distance(text, candidate);
    if (distance > least || (best != nullptr && distance == least)) continue;
    best = &candidate;
    least = distance;
  }
  return best == nullptr ? std::string() : *best;
}

}  // namespace weft::inline v0::detail
