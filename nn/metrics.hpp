// Figures over many batches: add_batch, compute, reset.
#pragma once

#include <cstdint>

#include <weft/core/tensor.hpp>

namespace weft::inline v0::nn::metrics {

/// The part of predictions that equal their targets.
class WEFT_API Accuracy {
 public:
  /// `predictions`: class numbers like `targets` (whole numbers), or scores [n, c] whose largest
  /// one counts. Throws ArgumentError for shapes that do not fit.
  void add_batch(const Tensor& predictions, const Tensor& targets);
  /// In [0, 1]. Throws ArgumentError before the first element.
  double compute() const;
  void reset() { *this = Accuracy(); }
  int64_t count() const { return count_; }

 private:
  int64_t correct_ = 0;
  int64_t count_ = 0;
};

/// The mean of values, each weighted by the elements that it stands for.
class WEFT_API Mean {
 public:
  /// All elements of `values`.
  void add_batch(const Tensor& values);
  /// `value`, a mean over `count` elements already. Throws ArgumentError for a negative count.
  void add_batch(double value, int64_t count = 1);
  /// Throws ArgumentError before the first element.
  double compute() const;
  void reset() { *this = Mean(); }
  int64_t count() const { return count_; }

 private:
  double sum_ = 0;
  int64_t count_ = 0;
};

}  // namespace weft::inline v0::nn::metrics
