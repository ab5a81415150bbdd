// The arithmetic of reducing collectives.
#pragma once

#include <cstddef>
#include <span>

#include <weft/dist/comm/call.hpp>

namespace weft::inline v0::dist::detail {

/// Writes op(sources[0][i], sources[1][i], …), taken in this order, to every destination, for
/// `count` elements. Destinations may be sources. 16-bit floats are added in f32 and rounded once;
/// whole numbers wrap; bool: sum and max are "or", prod and min are "and"; NaN wins sum, prod, min
/// and max. avg is for floating types only, band, bor and bxor for the others (the caller checks).
void reduce_into(DType dtype, ReduceOp op, std::span<const std::byte* const> sources,
                 std::span<std::byte* const> destinations, size_t count);

/// The dtype of what a part of the ranks gives: f32 for 16-bit floats, so that they are rounded
/// once, at the end; else `dtype`.
DType partial_dtype(DType dtype);

/// As reduce_into for a part of the ranks; avg only adds.
void reduce_to_partial(DType dtype, ReduceOp op, std::span<const std::byte* const> sources,
                       std::byte* partial, size_t count);

/// Combines the results of the parts in their order; avg divides by `parts`, the ranks in all.
void reduce_partials(DType dtype, ReduceOp op, std::span<const std::byte* const> partials,
                     std::span<std::byte* const> destinations, size_t count, size_t parts);

}  // namespace weft::inline v0::dist::detail
