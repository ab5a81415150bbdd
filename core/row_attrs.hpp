// Attributes of reductions, softmax, norms, losses, joining and indexing. Not for users.
#pragma once

#include <cstdint>

#include <weft/core/ops_options.hpp>

namespace weft::inline v0 {

/// Reductions: the dims that go, as bits; `value` is the p of a norm.
struct ReduceAttrs {
  uint32_t dims = 0;
  bool keepdim = false;
  double value = 0;

  bool reduces(int dim) const { return dims >> dim & 1u; }
};

/// Ops along one dim. `extra` is what the op needs beside it (the size that index_select's gradient
/// restores, the number of classes of one_hot).
struct DimAttrs {
  int dim = 0;
  bool keepdim = false;
  int64_t extra = 0;
};

struct CrossEntropyAttrs {
  int64_t ignore_index = -100;
  double label_smoothing = 0;
  Reduction reduction = Reduction::mean;
};

/// layer_norm, rms_norm: `width` elements of a row are normalised together. group_norm: `groups`.
struct NormAttrs {
  int64_t width = 0;
  int64_t groups = 0;
  double eps = 0;
  int rank = 0;  ///< how many dims the width comes from
  bool has_weight = false, has_bias = false;
};

struct EmbeddingAttrs {
  int64_t rows = 0;
  int64_t padding_idx = -1;
};

/// Elements added (or, below zero, cut off) at both ends of each dim.
struct PadAttrs {
  int32_t before[kMaxRank] = {};
  int32_t after[kMaxRank] = {};
  double value = 0;
  PadMode mode = PadMode::constant;
};

}  // namespace weft::inline v0
