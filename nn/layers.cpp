#include <weft/nn/layers.hpp>

#include <weft/core/base/check.hpp>
#include <weft/core/ops.hpp>

namespace weft::inline v0::nn {

Linear::Linear(const At& at, int64_t in_features, int64_t out_features, LinearOptions options)
    : Layer(at),
      weight(sub("weight"), {out_features, in_features}, Init::fan_in_uniform(in_features)),
      bias(sub("bias"), {out_features}, Init::fan_in_uniform(in_features), options.bias) {}

Tensor Linear::forward(const Tensor& x) const { return linear(x, weight, bias); }

namespace {

int64_t group_inputs(int64_t in_channels, int64_t out_channels, int64_t groups) {
  WEFT_CHECK(ArgumentError, groups >= 1 && in_channels % groups == 0 && out_channels % groups == 0,
             "Conv2d: {} groups do not divide {} input and {} output channels", groups, in_channels,
             out_channels);
  return in_channels / groups;
}

}  // namespace

Conv2d::Conv2d(const At& at, int64_t in_channels, int64_t out_channels, Pair kernel_size,
               Conv2dLayerOptions options)
    : Layer(at),
      weight(sub("weight"),
             {out_channels, group_inputs(in_channels, out_channels, options.groups), kernel_size.h,
              kernel_size.w},
             Init::fan_in_uniform(in_channels / options.groups * kernel_size.h * kernel_size.w)),
      bias(sub("bias"), {out_channels}, weight.init(), options.bias),
      options_{.stride = options.stride,
               .padding = options.padding,
               .dilation = options.dilation,
               .groups = options.groups} {}

Tensor Conv2d::forward(const Tensor& x) const { return conv2d(x, weight, bias, options_); }

namespace {

std::optional<int64_t> padding_row(std::optional<int64_t> index, int64_t rows) {
  if (!index) return index;
  WEFT_CHECK(ArgumentError, *index >= -rows && *index < rows,
             "Embedding: padding_idx {} is out of range for {} rows", *index, rows);
  return *index < 0 ? *index + rows : *index;
}

Init embedding_init(std::optional<int64_t> padding) {
  Init init = Init::normal(0, 1);
  init.zero_row = padding.value_or(-1);
  return init;
}

}  // namespace

Embedding::Embedding(const At& at, int64_t num_embeddings, int64_t embedding_dim,
                     EmbeddingOptions options)
    : Layer(at),
      weight(sub("weight"), {num_embeddings, embedding_dim},
             embedding_init(padding_row(options.padding_idx, num_embeddings))),
      padding_idx_(padding_row(options.padding_idx, num_embeddings)) {}

Tensor Embedding::forward(const Tensor& indices) const {
  return embedding(indices, weight, padding_idx_);
}

LayerNorm::LayerNorm(const At& at, const DimList& normalized_shape, LayerNormOptions options)
    : Layer(at),
      weight(sub("weight"), normalized_shape, Init::ones(), options.elementwise_affine),
      bias(sub("bias"), normalized_shape, Init::zeros(),
           options.elementwise_affine && options.bias),
      shape_(normalized_shape),
      eps_(options.eps) {}

Tensor LayerNorm::forward(const Tensor& x) const {
  return layer_norm(x, shape_, weight, bias, eps_);
}

RMSNorm::RMSNorm(const At& at, const DimList& normalized_shape, RMSNormOptions options)
    : Layer(at),
      weight(sub("weight"), normalized_shape, Init::ones(), options.elementwise_affine),
      shape_(normalized_shape),
      eps_(options.eps) {}

Tensor RMSNorm::forward(const Tensor& x) const { return rms_norm(x, shape_, weight, eps_); }

GroupNorm::GroupNorm(const At& at, int64_t num_groups, int64_t num_channels,
                     GroupNormOptions options)
    : Layer(at),
      weight(sub("weight"), {num_channels}, Init::ones(), options.affine),
      bias(sub("bias"), {num_channels}, Init::zeros(), options.affine),
      num_groups_(num_groups),
      eps_(options.eps) {
  WEFT_CHECK(ArgumentError, num_groups >= 1 && num_channels % num_groups == 0,
             "GroupNorm: {} groups do not divide {} channels", num_groups, num_channels);
}

Tensor GroupNorm::forward(const Tensor& x) const {
  return group_norm(x, num_groups_, weight, bias, eps_);
}

}  // namespace weft::inline v0::nn
