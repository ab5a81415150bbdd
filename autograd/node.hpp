// The graph that backward walks. Formulas (autograd/formulas*.cpp) and register_op see VjpContext.
#pragma once

#include <cstdint>
#include <span>

#include <weft/core/op.hpp>

namespace weft::inline v0 {

struct Node;

/// One call's backward as its formula sees it: the gradients of the outputs in, those of the inputs
/// out. A formula is written in public ops, so that it runs on every device and can itself be
/// recorded.
class WEFT_API VjpContext {
 public:
  VjpContext(Node& node, std::span<const Tensor> grads, std::span<Tensor> results)
      : node_(node), grads_(grads), results_(results) {}

  /// d(loss)/d(output i); zeros where the output was not used.
  Tensor grad(int i = 0) const;
  bool has_grad(int i) const { return grads_[static_cast<size_t>(i)].defined(); }
  /// Input or output i as saved (the row's flags). Throws ArgumentError where it was changed in
  /// place since, naming both ops.
  Tensor input(int i) const;
  Tensor output(int i = 0) const;
  /// False for an absent optional input.
  bool has_input(int i) const;

  int input_count() const;
  int output_count() const { return static_cast<int>(grads_.size()); }
  /// Of input i, saved or not.
  const Shape& input_shape(int i) const;
  DType input_dtype(int i) const;
  Device device() const;

  template <class T>
  T attrs() const {
    return raw_attrs().template as<T>();
  }
  const Attrs& raw_attrs() const;

  /// Whether input i wants a gradient; work for others can be left out.
  bool needs(int i) const;
  /// Hands over the gradient of input i. It is summed to the input's shape where the op broadcast
  /// it, and converted to its dtype.
  void set(int i, Tensor gradient);

 private:
  Node& node_;
  std::span<const Tensor> grads_;
  std::span<Tensor> results_;
};

}  // namespace weft::inline v0
