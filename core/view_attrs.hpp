// Attributes of the view ops. Not for users.
#pragma once

#include <cstdint>

#include <weft/core/shape.hpp>

namespace weft::inline v0 {

/// A shape as an attribute (as_shape, expand).
struct AsShapeAttrs {
  int64_t sizes[kMaxRank] = {};
  int32_t rank = 0;
  AsShapeAttrs() = default;
  explicit AsShapeAttrs(const Shape& shape) : rank(shape.rank()) {
    for (int i = 0; i < rank; ++i) sizes[i] = shape[i];
  }
  Shape shape() const { return Shape(std::span<const int64_t>(sizes, static_cast<size_t>(rank))); }
};

/// Output dim i comes from input dim source[i].
struct PermuteAttrs {
  uint8_t source[kMaxRank] = {};
};

/// Positions start, start + step … before end of one dim; `select` uses start alone.
struct SliceAttrs {
  int dim = 0;
  int64_t start = 0, end = 0, step = 1;
};

/// Where zero_scatter_slice puts its input: every `step`th position of `dim` from `start` on, in
/// zeros of `shape`.
struct ZeroScatterAttrs {
  AsShapeAttrs shape;
  int dim = 0;
  int64_t start = 0, step = 1;
};

/// Pieces of these sizes along one dim; more of them than fit are slices each.
struct SplitAttrs {
  static constexpr int kMost = 14;
  int32_t dim = 0;
  int32_t count = 0;
  int64_t sizes[kMost] = {};
};

namespace detail {

/// Strides that show memory of `from` and `strides` in the shape `to`; false where only a copy can.
bool view_strides(const Shape& from, const Strides& strides, const Shape& to, Strides& result);

/// `to` with its -1 filled in. Throws ArgumentError where the numbers of elements differ.
Shape resolve_shape(const char* op, const Shape& from, const Shape& to);

}  // namespace detail

}  // namespace weft::inline v0
