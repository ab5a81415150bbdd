// Averaging gradients over the ranks while backward runs.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <vector>

#include <weft/dist/comm/group.hpp>

namespace weft::inline v0::dist {

struct GradReducerOptions {
  size_t bucket_bytes = 25 << 20;       ///< a bucket is closed when it has this many bytes
  size_t first_bucket_bytes = 1 << 20;  ///< the first one is small, so that reducing starts early
};

/// Keeps the gradients of `parameters` equal on all ranks of `group`: their average. Gradients live
/// in buckets from birth (memory that the ranks share), in reverse order of the parameters; a
/// bucket is reduced as soon as backward has completed it and all before it, so that the order is
/// the same everywhere. Parameters that a pass does not reach count as zero where another rank
/// reaches them; those that no rank reaches keep the gradient that they have. Grouping follows Li
/// et al., PyTorch Distributed, 2020.
///
/// Gradients that earlier passes left are part of what is averaged: k passes with sync off and one
/// with sync on give the sum of all. A pass with create_graph leaves the buckets: its gradients are
/// copied in, averaged, and the values copied back. A backward that throws leaves the reducer
/// usable; the gradients are then to be zeroed.
class WEFT_API GradReducer {
 public:
  /// A collective. Throws ArgumentError for a tensor that is no leaf that requires grad or appears
  /// twice, and, on all ranks, where the ranks' parameters differ in number, shapes or dtypes.
  GradReducer(std::vector<Tensor> parameters, Group group, GradReducerOptions options = {});
  /// Gives the gradients memory of their own.
  ~GradReducer();
  GradReducer(const GradReducer&) = delete;
  GradReducer& operator=(const GradReducer&) = delete;

  /// Whether backward passes reduce (true at first). With false they add up on each rank alone.
  void set_sync(bool sync);
  bool sync() const;

  /// How much this rank's gradient counts in the average, for passes from now on: the samples
  /// behind the loss. All ranks set it, or none. Nothing: all count alike. Throws ArgumentError for
  /// a negative or infinite one.
  void set_weight(std::optional<double> weight);

  /// Runs `loss.backward()` so that this rank takes part even where the loss reaches none of the
  /// parameters.
  void backward(const Tensor& loss);

  /// Reduces what is there as if a backward had just ended, for a rank that has no loss this time.
  void reduce_without_backward();

  size_t bucket_count() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

/// Overwrites `tensors` (parameters, buffers) with those of `root`. A collective.
WEFT_API void broadcast_tensors(const std::vector<Tensor>& tensors, const Group& group,
                                int root = 0);

}  // namespace weft::inline v0::dist
