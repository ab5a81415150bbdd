// Sums of f32 and f64 at the speed of memory.
#pragma once

#include <cstddef>
#include <span>

namespace weft::inline v0::dist::detail {

/// reduce_into for sum, times `factor`, with the widest vectors that this CPU has. T: float,
/// double.
template <class T>
void add_into(std::span<const std::byte* const> sources, std::span<std::byte* const> destinations,
              size_t count, T factor);

}  // namespace weft::inline v0::dist::detail
