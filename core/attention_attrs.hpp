// Attributes of fused attention, and the op that its formula uses. Not for users.
#pragma once

#include <weft/core/tensor.hpp>

namespace weft::inline v0 {

struct AttentionAttrs {
  double scale = 1.0;
  bool is_causal = false;
};

namespace detail {

/// d(loss)/dq, dk and dv from the forward's inputs, its result and its log-sums of exponentials.
/// `mask` may be undefined.
void attention_backward(const Tensor& gradient, const Tensor& q, const Tensor& k, const Tensor& v,
                        const Tensor& mask, const Tensor& out, const Tensor& log_sums,
                        const AttentionAttrs& attrs, Tensor (&results)[3]);

}  // namespace detail

}  // namespace weft::inline v0
