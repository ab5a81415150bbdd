// Ops that formulas use and users do not need. Not for users.
#pragma once

#include <weft/core/tensor.hpp>

namespace weft::inline v0::detail {

/// Zeros of `shape` with `gradient` at positions start, start + step … of `dim`: backward of
/// slices.
Tensor zero_scatter_slice(const Tensor& gradient, const Shape& shape, int dim, int64_t start,
                          int64_t step);

}  // namespace weft::inline v0::detail
