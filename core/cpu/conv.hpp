// Convolution on the CPU, for a part of the batch on the calling thread. onednn_conv.cpp works in
// f32 and native bf16; conv_im2col.cpp in f32 and f64, by matrix products.
#pragma once

#include <cstdint>

#include <weft/core/dtype.hpp>

namespace weft::inline v0::detail {

/// x [n, c, h, w], weight [out, c / groups, kh, kw], y [n, out, oh, ow], all packed.
struct ConvShape {
  int64_t n = 0, c = 0, h = 0, w = 0, out = 0, kh = 0, kw = 0, oh = 0, ow = 0;
  int64_t stride[2] = {1, 1}, padding[2] = {0, 0}, dilation[2] = {1, 1};
  int64_t groups = 1;
  bool operator==(const ConvShape&) const = default;
};

enum class ConvPass : int64_t { forward, backward_input, backward_weight };

/// forward: y from x, weight, bias (null for none). backward_input: x from y and weight.
/// backward_weight: weight from x and y, in f32 where the others are bf16.
struct ConvPart {
  ConvShape shape;
  DType dtype = DType::f32;
  void* x = nullptr;
  void* weight = nullptr;
  const void* bias = nullptr;
  void* y = nullptr;
};

#ifdef WEFT_HAS_ONEDNN
void onednn_conv(ConvPass pass, const ConvPart& part);
#endif
void im2col_conv(ConvPass pass, const ConvPart& part);

}  // namespace weft::inline v0::detail
