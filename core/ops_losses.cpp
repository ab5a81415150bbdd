// softmax and cross entropy, as functions.
#include <weft/core/base/check.hpp>
#include <weft/core/op.hpp>
#include <weft/core/ops.hpp>
#include <weft/core/ops_internal.hpp>
#include <weft/core/row_attrs.hpp>

namespace weft::inline v0 {

namespace {

Tensor along_dim(OpId op, const Tensor& x, int64_t dim) {
  const TensorRef ref = x.checked();
  return dispatch(op, Attrs(DimAttrs{normalize_dim(op_info(op).name, dim, x.dim())}),
                  Inputs(&ref, 1));
}

Tensor along_dim(OpId op, const Tensor& a, const Tensor& b, int dim) {
  const TensorRef refs[] = {a.checked(), b.checked()};
  return dispatch(op, Attrs(DimAttrs{dim}), refs);
}

}  // namespace

Tensor softmax(const Tensor& x, int64_t dim) { return along_dim(OpId::softmax, x, dim); }
Tensor log_softmax(const Tensor& x, int64_t dim) { return along_dim(OpId::log_softmax, x, dim); }

namespace detail {
Tensor softmax_backward(const Tensor& grad, const Tensor& y, int dim) {
  return along_dim(OpId::softmax_backward, grad, y, dim);
}
Tensor log_softmax_backward(const Tensor& grad, const Tensor& y, int dim) {
  return along_dim(OpId::log_softmax_backward, grad, y, dim);
}
void fail_class(const char* op, int64_t target, int64_t row, int64_t classes) {
  fail<ArgumentError>("{}: target {} of row {} is not one of {} classes (0 to {})", op, target, row,
                      classes, classes - 1);
}
}  // namespace detail

namespace {

/// Targets as probabilities: the sum of -p log q over the classes, by smaller ops.
Tensor cross_entropy_soft(const Tensor& logits, const Tensor& targets, int class_dim,
                          const CrossEntropyOptions& options) {
  const int64_t classes = logits.shape()[class_dim];
  Tensor target = targets;
  if (options.label_smoothing > 0)
    target = target * (1.0 - options.label_smoothing) +
             options.label_smoothing / static_cast<double>(classes);
  Tensor terms = log_softmax(logits, class_dim) * target;
  if (options.weight.defined()) {
    Shape shape;
    for (int i = 0; i < logits.dim(); ++i) shape.push_back(i == class_dim ? classes : 1);
    terms = terms * reshape(options.weight, shape);
  }
  if (options.reduction == Reduction::none) return -sum(terms, {.dim = class_dim});
  const Tensor total = -sum(terms);
  if (options.reduction == Reduction::sum) return total;
  return total / (static_cast<double>(logits.numel()) / static_cast<double>(classes));
}

}  // namespace

Tensor cross_entropy(const Tensor& logits, const Tensor& targets,
                     const CrossEntropyOptions& options) {
  const int rank = logits.dim(), class_dim = rank == 1 ? 0 : 1;
  WEFT_CHECK(ArgumentError, rank >= 1, "cross_entropy: logits need a dim of classes, got shape []");
  WEFT_CHECK(ArgumentError, options.label_smoothing >= 0 && options.label_smoothing <= 1,
             "cross_entropy: label_smoothing {} is not between 0 and 1", options.label_smoothing);
  WEFT_CHECK(ArgumentError, options.reduction != Reduction::batchmean,
             "cross_entropy: reduction batchmean belongs to kl_div; use mean");
  if (logits.shape() == targets.shape() && targets.is_floating_point())
    return cross_entropy_soft(logits, targets, class_dim, options);

  Shape expected = logits.shape();
  expected.erase(class_dim);
  WEFT_CHECK(ArgumentError, targets.shape() == expected,
             "cross_entropy: logits {} and targets {} do not fit; targets have the logits' shape "
             "without the classes (dim {})",
             to_string(logits.shape()), to_string(targets.shape()), class_dim);
  // The kernel sees a matrix of rows: one row per target.
  const int64_t classes = logits.shape()[class_dim], rows = expected.numel();
  const Tensor moved = rank > 2 ? movedim(logits, 1, -1) : logits;
  const Tensor matrix = rank == 2 ? logits : reshape(moved, {rows, classes});
  const Tensor flat = targets.dim() == 1 ? targets : reshape(targets, {rows});
  const TensorRef refs[] = {matrix.checked(), flat.checked(), options.weight.impl()};
  Tensor outputs[3];
  dispatch_multi(
      OpId::cross_entropy,
      Attrs(CrossEntropyAttrs{options.ignore_index, options.label_smoothing, options.reduction}),
      refs, outputs);
  if (options.reduction != Reduction::none || targets.dim() == 1) return outputs[0];
  return reshape(outputs[0], expected);
}

}  // namespace weft::inline v0
