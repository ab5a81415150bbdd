// The arithmetic of reducing collectives.
//
// Note [Order of a sum]
// Sums are formed in pairs: of n sources, the largest power of two below n first, then the rest,
// and of each alike; so 6 give ((0 + 1) + (2 + 3)) + (4 + 5). An aligned run of 2^k sources is
// always added up by itself. Where every node has as many ranks, and these are a power of two, what
// the ranks of a node give together is such a run: the result is that of as many ranks on one host,
// to the bit. Rounding errors also grow with the logarithm of n alone.
#pragma once

#include <cstddef>
#include <span>

#include <weft/dist/comm/call.hpp>

namespace weft::inline v0::dist::detail {

/// The sources that are added up without keeping anything, and how many intermediate results are
/// kept: enough for 2^18 sources.
inline constexpr size_t kLeaf = 4, kLevels = 16;

/// Writes op(sources[0][i], sources[1][i], …), in the order of Note [Order of a sum], to every
/// destination, for `count` elements. Destinations may be sources. 16-bit floats are added in f32
/// and rounded once; whole numbers wrap; bool: sum and max are "or", prod and min are "and"; NaN
/// wins sum, prod, min and max. avg is for floating types only, band, bor and bxor for the others
/// (the caller checks).
void reduce_into(DType dtype, ReduceOp op, std::span<const std::byte* const> sources,
                 std::span<std::byte* const> destinations, size_t count);

/// The dtype of what a part of the ranks gives: f32 for 16-bit floats, so that they are rounded
/// once, at the end; else `dtype`.
DType partial_dtype(DType dtype);

/// As reduce_into for a part of the ranks; avg only adds.
void reduce_to_partial(DType dtype, ReduceOp op, std::span<const std::byte* const> sources,
                       std::byte* partial, size_t count);

/// Combines the results of the parts, in the same order; avg divides by `parts`, the ranks in all.
void reduce_partials(DType dtype, ReduceOp op, std::span<const std::byte* const> partials,
                     std::span<std::byte* const> destinations, size_t count, size_t parts);

}  // namespace weft::inline v0::dist::detail
