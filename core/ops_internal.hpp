// Ops that formulas use and users do not need, and error texts of kernels. Not for users.
#pragma once

#include <weft/core/row_attrs.hpp>
#include <weft/core/tensor.hpp>

namespace weft::inline v0::detail {

/// Zeros of `shape` with `gradient` at positions start, start + step … of `dim`: backward of
/// slices.
Tensor zero_scatter_slice(const Tensor& gradient, const Shape& shape, int dim, int64_t start,
                          int64_t step);

/// Gradients of softmax and log_softmax along `dim`, from the gradient of the result and the
/// result.
Tensor softmax_backward(const Tensor& grad, const Tensor& y, int dim);
Tensor log_softmax_backward(const Tensor& grad, const Tensor& y, int dim);

/// Sum of the rows of grad that share an index, [rows, d]; `padding_idx` gets none (-1: all do).
Tensor embedding_backward(const Tensor& grad, const Tensor& indices, int64_t rows,
                          int64_t padding_idx);

/// pad and the gradient of its modes that repeat elements.
Tensor pad_with(const Tensor& x, const PadAttrs& attrs);
Tensor pad_backward(const Tensor& grad, const PadAttrs& attrs);

// Errors that kernels find. Out of line and no templates: kernel files are compiled per CPU level
// and must not bring code of their own for anything outside their namespace.
[[noreturn]] void fail_index(const char* op, int64_t index, int dim, int64_t size);
[[noreturn]] void fail_class(const char* op, int64_t target, int64_t row, int64_t classes);

}  // namespace weft::inline v0::detail
