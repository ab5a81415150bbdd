// Keyword arguments of the operators.
#pragma once

#include <cstdint>
#include <optional>

#include <weft/core/dtype.hpp>
#include <weft/core/tensor.hpp>

namespace weft::inline v0 {

/// One number for both spatial dims, or {height, width}.
struct Pair {
  int64_t h, w;
  Pair(int64_t both) : h(both), w(both) {}
  Pair(int64_t height, int64_t width) : h(height), w(width) {}
  bool operator==(const Pair&) const = default;
};

enum class GeluApproximation : uint8_t { none, tanh };
struct GeluOptions {
  GeluApproximation approximate = GeluApproximation::none;
};

struct ReduceOptions {
  DimList dim = {};  ///< empty: all
  bool keepdim = false;
};

struct VarOptions {
  DimList dim = {};
  double correction = 1.0;  ///< Bessel's
  bool keepdim = false;
};

struct Conv2dOptions {
  Pair stride = 1;
  Pair padding = 0;
  Pair dilation = 1;
  int64_t groups = 1;
};

struct Pool2dOptions {
  Pair kernel_size = 2;
  std::optional<Pair> stride = {};  ///< the kernel size unless given
  Pair padding = 0;
  Pair dilation = 1;  ///< max_pool2d alone
  bool ceil_mode = false;
  bool count_include_pad = true;  ///< avg_pool2d alone
};

struct AttentionOptions {
  Tensor attn_mask = {};  ///< bool (true: attend) or added to the scores; broadcasts to [.., l, s]
  double dropout_p = 0.0;
  bool is_causal = false;            ///< row i sees columns 0 … i
  std::optional<double> scale = {};  ///< 1 / sqrt(d) unless given
  bool enable_gqa = false;           ///< fewer key and value heads than query heads
};

/// What `pad` puts beside a tensor: a number, its elements mirrored at the edge (the edge itself
/// not repeated), or its edge.
enum class PadMode : uint8_t { constant, reflect, replicate };

enum class Reduction : uint8_t { none, mean, sum, batchmean };

struct CrossEntropyOptions {
  Tensor weight = {};  ///< of each class, [c]
  int64_t ignore_index = -100;
  Reduction reduction = Reduction::mean;
  double label_smoothing = 0.0;
};

struct LossOptions {
  Reduction reduction = Reduction::mean;
  double delta = 1.0;  ///< huber_loss; beta of smooth_l1_loss
};

}  // namespace weft::inline v0
