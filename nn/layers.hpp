// Layers with parameters: linear, convolution, embedding, norms. First values are PyTorch's.
#pragma once

#include <cstdint>
#include <optional>

#include <weft/core/ops_options.hpp>
#include <weft/nn/layer.hpp>

namespace weft::inline v0::nn {

struct LinearOptions {
  bool bias = true;
};

/// x [.., in] -> x weight^T + bias [.., out].
class WEFT_API Linear : public Layer<Linear> {
 public:
  Param weight;  ///< [out, in], uniform within 1 / sqrt(in)
  Param bias;    ///< [out], likewise; absent without bias

  /// Throws ArgumentError for negative sizes.
  Linear(const At& at, int64_t in_features, int64_t out_features, LinearOptions options = {});
  Tensor forward(const Tensor& x) const;
  int64_t in_features() const { return weight.shape()[1]; }
  int64_t out_features() const { return weight.shape()[0]; }
};

struct Conv2dLayerOptions {
  Pair stride = 1;
  Pair padding = 0;
  Pair dilation = 1;
  int64_t groups = 1;
  bool bias = true;
};

/// x [n, in, h, w] -> [n, out, h', w'].
class WEFT_API Conv2d : public Layer<Conv2d> {
 public:
  Param weight;  ///< [out, in / groups, kh, kw], uniform within 1 / sqrt(fan in)
  Param bias;    ///< [out], likewise

  /// Throws ArgumentError where groups does not divide the channels.
  Conv2d(const At& at, int64_t in_channels, int64_t out_channels, Pair kernel_size,
         Conv2dLayerOptions options = {});
  Tensor forward(const Tensor& x) const;
  const Conv2dOptions& options() const { return options_; }

 private:
  Conv2dOptions options_;
};

struct EmbeddingOptions {
  std::optional<int64_t> padding_idx = {};  ///< a row of zeros that gets no gradient
};

/// Rows of a table: indices [..] (i64) -> [.., dim].
class WEFT_API Embedding : public Layer<Embedding> {
 public:
  Param weight;  ///< [num, dim], normal(0, 1)

  /// A negative padding_idx counts from the end. Throws ArgumentError out of range.
  Embedding(const At& at, int64_t num_embeddings, int64_t embedding_dim,
            EmbeddingOptions options = {});
  Tensor forward(const Tensor& indices) const;
  std::optional<int64_t> padding_idx() const { return padding_idx_; }

 private:
  std::optional<int64_t> padding_idx_;
};

struct LayerNormOptions {
  double eps = 1e-5;
  bool elementwise_affine = true;
  bool bias = true;
};

/// (x - mean) / sqrt(var + eps) * weight + bias over the last dims. Ba et al., 2016.
class WEFT_API LayerNorm : public Layer<LayerNorm> {
 public:
  Param weight;  ///< ones
  Param bias;    ///< zeros

  LayerNorm(const At& at, const DimList& normalized_shape, LayerNormOptions options = {});
  Tensor forward(const Tensor& x) const;

 private:
  Shape shape_;
  double eps_;
};

struct RMSNormOptions {
  std::optional<double> eps = {};  ///< the dtype's machine epsilon unless given
  bool elementwise_affine = true;
};

/// x / sqrt(mean(x^2) + eps) * weight over the last dims. Zhang and Sennrich, 2019.
class WEFT_API RMSNorm : public Layer<RMSNorm> {
 public:
  Param weight;  ///< ones

  RMSNorm(const At& at, const DimList& normalized_shape, RMSNormOptions options = {});
  Tensor forward(const Tensor& x) const;

 private:
  Shape shape_;
  std::optional<double> eps_;
};

struct GroupNormOptions {
  double eps = 1e-5;
  bool affine = true;
};

/// Channels in groups, each normalised for itself: x [n, c, …]. Wu and He, 2018.
class WEFT_API GroupNorm : public Layer<GroupNorm> {
 public:
  Param weight;  ///< [c], ones
  Param bias;    ///< [c], zeros

  /// Throws ArgumentError where num_groups does not divide num_channels.
  GroupNorm(const At& at, int64_t num_groups, int64_t num_channels, GroupNormOptions options = {});
  Tensor forward(const Tensor& x) const;

 private:
  int64_t num_groups_;
  double eps_;
};

}  // namespace weft::inline v0::nn
