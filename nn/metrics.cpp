#include <weft/nn/metrics.hpp>

#include <weft/autograd/autograd.hpp>
#include <weft/core/base/check.hpp>
#include <weft/core/ops.hpp>

namespace weft::inline v0::nn::metrics {

void Accuracy::add_batch(const Tensor& predictions, const Tensor& targets) {
  const NoGrad guard;
  const bool scores = predictions.dim() == targets.dim() + 1;
  const Tensor classes = scores ? argmax(predictions, 1) : predictions;
  WEFT_CHECK(
      ArgumentError, classes.shape() == targets.shape(),
      "Accuracy: predictions {} do not fit targets {}; give class numbers of the same shape, "
      "or scores with one more dim",
      to_string(predictions.shape()), to_string(targets.shape()));
  WEFT_CHECK(ArgumentError, !is_floating(targets.dtype()),
             "Accuracy: targets are {}; they must be class numbers", name_of(targets.dtype()));
  if (targets.numel() == 0) return;
  correct_ += sum(eq(classes, targets).to(DType::i64)).item<int64_t>();
  count_ += targets.numel();
}

double Accuracy::compute() const {
  WEFT_CHECK(ArgumentError, count_ > 0, "Accuracy: nothing was added yet");
  return static_cast<double>(correct_) / static_cast<double>(count_);
}

void Mean::add_batch(const Tensor& values) {
  const NoGrad guard;
  if (values.numel() == 0) return;
  sum_ += sum(values.detach().to(DType::f64)).item<double>();
  count_ += values.numel();
}

void Mean::add_batch(double value, int64_t count) {
  WEFT_CHECK(ArgumentError, count >= 0, "Mean: a count of {}; it must be at least 0", count);
  sum_ += value * static_cast<double>(count);
  count_ += count;
}

double Mean::compute() const {
  WEFT_CHECK(ArgumentError, count_ > 0, "Mean: nothing was added yet");
  return sum_ / static_cast<double>(count_);
}

}  // namespace weft::inline v0::nn::metrics
