// Attributes of convolution and pooling, and the ops that their formulas use. Not for users.
#pragma once

#include <cstdint>

#include <weft/core/ops_options.hpp>

namespace weft::inline v0 {

/// {height, width} each.
struct Conv2dAttrs {
  int64_t stride[2] = {1, 1}, padding[2] = {0, 0}, dilation[2] = {1, 1};
  int64_t groups = 1;
  int64_t size[2] = {0, 0};  ///< of the result, for the backward ops alone
};

struct Pool2dAttrs {
  int64_t kernel[2] = {1, 1}, stride[2] = {1, 1}, padding[2] = {0, 0}, dilation[2] = {1, 1};
  int64_t size[2] = {0, 0};  ///< of the input, for the backward ops alone
  bool ceil_mode = false;
  bool count_include_pad = true;
};

namespace detail {

/// d(loss)/dx of conv2d; attrs.size is x's height and width.
Tensor conv2d_backward_input(const Tensor& gradient, const Tensor& weight,
                             const Conv2dAttrs& attrs);
/// d(loss)/dweight of conv2d; attrs.size is the kernel's height and width.
Tensor conv2d_backward_weight(const Tensor& gradient, const Tensor& x, const Conv2dAttrs& attrs);
Tensor conv2d_with(const Tensor& x, const Tensor& weight, const Tensor& bias,
                   const Conv2dAttrs& attrs);

/// The gradient put back where each largest element came from; attrs.size is the input's.
Tensor max_pool2d_backward(const Tensor& gradient, const Tensor& index, const Pool2dAttrs& attrs);
/// The elements that max_pool2d chose: backward of its backward.
Tensor max_pool2d_gather(const Tensor& x, const Tensor& index);
Tensor avg_pool2d_backward(const Tensor& gradient, const Pool2dAttrs& attrs);
Tensor avg_pool2d_with(const Tensor& x, const Pool2dAttrs& attrs);

}  // namespace detail

}  // namespace weft::inline v0
