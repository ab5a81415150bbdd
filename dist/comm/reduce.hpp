// The arithmetic of reducing collectives.
#pragma once

#include <cstddef>
#include <span>

#include <weft/dist/comm/call.hpp>

namespace weft::inline v0::dist::detail {

/// Writes op(sources[0][i], sources[1][i], …), taken in this order, to every destination, for
/// `count` elements. Destinations may be sources. 16-bit floats are added in f32 and rounded once;
/// whole numbers wrap; bool: sum and max are "or", prod and min are "and"; NaN wins min and max.
/// avg is for floating types only (the caller checks).
void reduce_into(DType dtype, ReduceOp op, std::span<const std::byte* const> sources,
                 std::span<std::byte* const> destinations, size_t count);

}  // namespace weft::inline v0::dist::detail
