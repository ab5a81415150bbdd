// Losses and distances between two tensors, made of smaller ops.
#include <algorithm>

#include <weft/core/base/check.hpp>
#include <weft/core/ops.hpp>

namespace weft::inline v0 {

namespace {

Tensor reduce_loss(const char* op, const Tensor& terms, Reduction reduction) {
  WEFT_CHECK(ArgumentError, reduction != Reduction::batchmean,
             "{}: reduction batchmean belongs to kl_div; use mean", op);
  if (reduction == Reduction::none) return terms;
  return reduction == Reduction::mean ? mean(terms) : sum(terms);
}

}  // namespace

Tensor nll_loss(const Tensor& log_probabilities, const Tensor& targets,
                const CrossEntropyOptions& options) {
  const int rank = log_probabilities.dim(), class_dim = rank == 1 ? 0 : 1;
  WEFT_CHECK(ArgumentError, rank >= 1,
             "nll_loss: log-probabilities need a dim of classes, got shape []");
  Shape expected = log_probabilities.shape();
  expected.erase(class_dim);
  WEFT_CHECK(
      ArgumentError, targets.shape() == expected,
      "nll_loss: log-probabilities {} and targets {} do not fit; targets have the same shape "
      "without the classes (dim {})",
      to_string(log_probabilities.shape()), to_string(targets.shape()), class_dim);
  WEFT_CHECK(ArgumentError, targets.dtype() == DType::i64,
             "nll_loss: class numbers are i64, got {}; convert them with .to(DType::i64)",
             name_of(targets.dtype()));
  const Tensor used = ne(targets, options.ignore_index);
  const Tensor safe = where(used, targets, 0);
  const Tensor picked =
      squeeze(gather(log_probabilities, class_dim, unsqueeze(safe, class_dim)), class_dim);
  Tensor weight = used.to(log_probabilities.dtype());
  if (options.weight.defined())
    weight = weight *
             reshape(index_select(options.weight, 0, reshape(safe, {safe.numel()})), safe.shape());
  const Tensor terms = -(picked * weight);
  if (options.reduction == Reduction::mean) return sum(terms) / sum(weight);
  return reduce_loss("nll_loss", terms, options.reduction);
}

Tensor mse_loss(const Tensor& input, const Tensor& target, LossOptions options) {
  return reduce_loss("mse_loss", square(input - target), options.reduction);
}

Tensor l1_loss(const Tensor& input, const Tensor& target, LossOptions options) {
  return reduce_loss("l1_loss", abs(input - target), options.reduction);
}

Tensor smooth_l1_loss(const Tensor& input, const Tensor& target, LossOptions options) {
  const double beta = options.delta;
  WEFT_CHECK(ArgumentError, beta >= 0, "smooth_l1_loss: beta {} is below 0", beta);
  const Tensor difference = input - target, size = abs(difference);
  if (beta == 0) return reduce_loss("smooth_l1_loss", size, options.reduction);
  const Tensor terms = where(lt(size, beta), square(difference) * (0.5 / beta), size - 0.5 * beta);
  return reduce_loss("smooth_l1_loss", terms, options.reduction);
}

Tensor huber_loss(const Tensor& input, const Tensor& target, LossOptions options) {
  const double delta = options.delta;
  WEFT_CHECK(ArgumentError, delta > 0, "huber_loss: delta {} is not above 0", delta);
  const Tensor difference = input - target, size = abs(difference);
  const Tensor terms =
      where(lt(size, delta), square(difference) * 0.5, (size - 0.5 * delta) * delta);
  return reduce_loss("huber_loss", terms, options.reduction);
}

Tensor binary_cross_entropy(const Tensor& input, const Tensor& target, LossOptions options) {
  // Logarithms stop at -100, so that a certain and wrong answer stays finite.
  const Tensor yes = clamp(log(input), -100.0), no = clamp(log1p(-input), -100.0);
  return reduce_loss("binary_cross_entropy", -(target * yes + (1 - target) * no),
                     options.reduction);
}

Tensor binary_cross_entropy_with_logits(const Tensor& input, const Tensor& target,
                                        LossOptions options) {
  const Tensor terms = (1 - target) * input - logsigmoid(input);
  return reduce_loss("binary_cross_entropy_with_logits", terms, options.reduction);
}

Tensor kl_div(const Tensor& input, const Tensor& target, LossOptions options) {
  const Tensor positive = gt(target, 0);
  const Tensor safe = where(positive, target, 1.0);
  const Tensor terms = where(positive, target * log(safe), 0.0) - target * input;
  if (options.reduction != Reduction::batchmean)
    return reduce_loss("kl_div", terms, options.reduction);
  WEFT_CHECK(ArgumentError, input.dim() > 0, "kl_div: a 0-d input has no batch for batchmean");
  return sum(terms) / static_cast<double>(input.shape()[0]);
}

Tensor cosine_similarity(const Tensor& a, const Tensor& b, int64_t dim, double eps) {
  const Shape shape = broadcast_shapes("cosine_similarity", a.shape(), b.shape());
  const int64_t d = normalize_dim("cosine_similarity", dim, shape.rank());
  const Tensor x = expand(a, shape), y = expand(b, shape);
  return sum(normalize(x, 2.0, d, eps) * normalize(y, 2.0, d, eps), {.dim = d});
}

Tensor normalize(const Tensor& x, double p, int64_t dim, double eps) {
  return x / clamp(norm(x, p, {.dim = dim, .keepdim = true}), eps);
}

}  // namespace weft::inline v0
