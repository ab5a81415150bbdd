// Limits on gradients.
#pragma once

#include <vector>

#include <weft/core/tensor.hpp>

namespace weft::inline v0::nn {

struct ClipOptions {
  double norm_type = 2.0;  ///< p of the norm; infinity is allowed
  bool error_if_nonfinite = false;
};

/// Scales all gradients by one factor so that their common norm is at most `max_norm`. Returns the
/// norm before. Parameters without a gradient count as 0. Throws ArgumentError for a norm that is
/// NaN or infinite where asked to; Pascanu et al., On the Difficulty of Training Recurrent Neural
/// Networks, 2013.
WEFT_API Tensor clip_grad_norm_(const std::vector<Tensor>& parameters, double max_norm,
                                ClipOptions options = {});

/// Limits every element of the gradients to [-clip_value, clip_value].
WEFT_API void clip_grad_value_(const std::vector<Tensor>& parameters, double clip_value);

}  // namespace weft::inline v0::nn

namespace weft::inline v0::optim {
using nn::clip_grad_norm_;
using nn::clip_grad_value_;
}  // namespace weft::inline v0::optim
