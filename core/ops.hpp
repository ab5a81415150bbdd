// The operators, as functions. Names, defaults and meaning are PyTorch's where it has them.
// Every function throws ArgumentError for shapes or dtypes that do not fit and DeviceError for
// tensors on different devices; the texts name the op and the values. All are recorded for backward
// unless a comment says otherwise, and all work on meta.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <weft/core/ops_options.hpp>
#include <weft/core/tensor.hpp>

namespace weft::inline v0 {

// ---- making tensors

WEFT_API Tensor empty(const Shape& shape, const TensorOptions& options = {});  ///< no values yet
WEFT_API Tensor zeros(const Shape& shape, const TensorOptions& options = {});
WEFT_API Tensor ones(const Shape& shape, const TensorOptions& options = {});
/// All elements `value`; the dtype is the value's (f32, i64 or bool) unless given.
WEFT_API Tensor full(const Shape& shape, Scalar value);
WEFT_API Tensor full(const Shape& shape, Scalar value, const TensorOptions& options);
WEFT_API Tensor zeros_like(const Tensor& x);
WEFT_API Tensor ones_like(const Tensor& x);
WEFT_API Tensor full_like(const Tensor& x, Scalar value);
WEFT_API Tensor empty_like(const Tensor& x);
/// start, start + step … below end (above it for a negative step). Whole numbers give i64.
WEFT_API Tensor arange(Scalar end);
WEFT_API Tensor arange(Scalar start, Scalar end, Scalar step = 1);
WEFT_API Tensor arange(Scalar start, Scalar end, Scalar step, const TensorOptions& options);
/// `steps` numbers from start to end, both included.
WEFT_API Tensor linspace(double start, double end, int64_t steps,
                         const TensorOptions& options = {});
/// The n x n identity.
WEFT_API Tensor eye(int64_t n, const TensorOptions& options = {});
WEFT_API Tensor scalar_tensor(Scalar value, const TensorOptions& options);

/// A tensor over memory of the caller, in C order. `deleter` runs when the last handle is gone;
/// without one the memory must outlive the tensor.
WEFT_API Tensor from_blob(void* data, const Shape& shape, DType dtype,
                          std::function<void(void*)> deleter = nullptr);
/// A tensor with a copy of `count` elements of `dtype` at `data`.
WEFT_API Tensor from_host(const void* data, const Shape& shape, DType dtype,
                          Device device = Device::cpu());

namespace detail {
/// double literals make f32 tensors, as PyTorch's default dtype does; int makes i64.
template <class T>
using Element = std::conditional_t<std::is_same_v<T, double>, float,
                                   std::conditional_t<std::is_same_v<T, int>, int64_t, T>>;
template <class T>
Tensor tensor_of(const std::vector<Element<T>>& values, const Shape& shape, Device device) {
  if constexpr (std::is_same_v<T, bool>) {
    std::vector<uint8_t> bytes(values.begin(), values.end());
    return from_host(bytes.data(), shape, DType::boolean, device);
  } else {
    return from_host(values.data(), shape, dtype_of<Element<T>>, device);
  }
}
[[noreturn]] WEFT_API void fail_ragged(size_t expected, size_t got);
}  // namespace detail

/// A tensor with these values: f32 from real literals, i64 from whole ones.
template <class T>
requires std::is_arithmetic_v<T> Tensor tensor(T value, Device device = Device::cpu()) {
  return detail::tensor_of<T>({static_cast<detail::Element<T>>(value)}, {}, device);
}
template <class T>
Tensor tensor(std::initializer_list<T> values, Device device = Device::cpu()) {
  return detail::tensor_of<T>(std::vector<detail::Element<T>>(values.begin(), values.end()),
                              {static_cast<int64_t>(values.size())}, device);
}
template <class T>
Tensor tensor(std::initializer_list<std::initializer_list<T>> rows, Device device = Device::cpu()) {
  std::vector<detail::Element<T>> values;
  const size_t columns = rows.size() == 0 ? 0 : rows.begin()->size();
  for (const auto& row : rows) {
    if (row.size() != columns) detail::fail_ragged(columns, row.size());
    values.insert(values.end(), row.begin(), row.end());
  }
  return detail::tensor_of<T>(
      values, {static_cast<int64_t>(rows.size()), static_cast<int64_t>(columns)}, device);
}
template <class T>
Tensor tensor(const std::vector<T>& values, Device device = Device::cpu()) {
  return detail::tensor_of<T>(std::vector<detail::Element<T>>(values.begin(), values.end()),
                              {static_cast<int64_t>(values.size())}, device);
}

// ---- random numbers (core/random.hpp has the generator)

WEFT_API Tensor rand(const Shape& shape, const TensorOptions& options = {});  ///< uniform in [0, 1)
WEFT_API Tensor randn(const Shape& shape, const TensorOptions& options = {});  ///< normal(0, 1)
/// Whole numbers in [low, high), i64.
WEFT_API Tensor randint(int64_t low, int64_t high, const Shape& shape,
                        Device device = Device::cpu());
/// 0 … n-1 in random order, i64.
WEFT_API Tensor randperm(int64_t n, Device device = Device::cpu());

// ---- views

/// Same elements, another shape; one size may be -1. `view` throws ArgumentError where the strides
/// do not allow it without a copy; `reshape` copies then.
WEFT_API Tensor view(const Tensor& x, const Shape& shape);
WEFT_API Tensor reshape(const Tensor& x, const Shape& shape);
WEFT_API Tensor permute(const Tensor& x, const Dims& dims);
WEFT_API Tensor transpose(const Tensor& x, int64_t dim0, int64_t dim1);
WEFT_API Tensor movedim(const Tensor& x, int64_t source, int64_t destination);
WEFT_API Tensor unsqueeze(const Tensor& x, int64_t dim);
WEFT_API Tensor squeeze(const Tensor& x);  ///< all dims of size 1
WEFT_API Tensor squeeze(const Tensor& x, int64_t dim);
WEFT_API Tensor flatten(const Tensor& x, int64_t start_dim = 0, int64_t end_dim = -1);
/// Repeats dims of size 1 without copying; -1 keeps a size.
WEFT_API Tensor expand(const Tensor& x, const Shape& shape);
/// Elements start, start + step … before end of a dim; negative positions count from the end, both
/// are clamped as Python does; step >= 1.
WEFT_API Tensor slice(const Tensor& x, int64_t dim, int64_t start, int64_t end, int64_t step = 1);
WEFT_API Tensor narrow(const Tensor& x, int64_t dim, int64_t start, int64_t length);
/// One position of a dim, without the dim.
WEFT_API Tensor select(const Tensor& x, int64_t dim, int64_t index);
/// Pieces of `split_size` along a dim, the last one shorter where it does not divide; or of given
/// sizes.
WEFT_API std::vector<Tensor> split(const Tensor& x, int64_t split_size, int64_t dim = 0);
WEFT_API std::vector<Tensor> split(const Tensor& x, const std::vector<int64_t>& sizes,
                                   int64_t dim = 0);
WEFT_API std::vector<Tensor> chunk(const Tensor& x, int64_t chunks, int64_t dim = 0);
WEFT_API std::vector<Tensor> unbind(const Tensor& x, int64_t dim = 0);
/// The diagonal of the last two dims.
WEFT_API Tensor diagonal(const Tensor& x, int64_t offset = 0);

// ---- pointwise, one input

#define WEFT_UNARY(name) WEFT_API Tensor name(const Tensor& x);
WEFT_UNARY(neg)
WEFT_UNARY(abs)
WEFT_UNARY(sign)
WEFT_UNARY(floor)
WEFT_UNARY(ceil)
WEFT_UNARY(round)
WEFT_UNARY(trunc)
WEFT_UNARY(exp)
WEFT_UNARY(expm1)
WEFT_UNARY(log)
WEFT_UNARY(log2)
WEFT_UNARY(log10)
WEFT_UNARY(log1p)
WEFT_UNARY(sqrt)
WEFT_UNARY(rsqrt)
WEFT_UNARY(square)
WEFT_UNARY(reciprocal)
WEFT_UNARY(sin)
WEFT_UNARY(cos)
WEFT_UNARY(tan)
WEFT_UNARY(asin)
WEFT_UNARY(acos)
WEFT_UNARY(atan)
WEFT_UNARY(sinh)
WEFT_UNARY(cosh)
WEFT_UNARY(tanh)
WEFT_UNARY(erf)
WEFT_UNARY(sigmoid)
WEFT_UNARY(relu)
WEFT_UNARY(relu6)
WEFT_UNARY(silu)
WEFT_UNARY(mish)
WEFT_UNARY(hardswish)
WEFT_UNARY(hardsigmoid)
WEFT_UNARY(selu)
WEFT_UNARY(softsign)
WEFT_UNARY(logsigmoid)
WEFT_UNARY(isnan)
WEFT_UNARY(isinf)
WEFT_UNARY(isfinite)
WEFT_UNARY(logical_not)
#undef WEFT_UNARY

WEFT_API Tensor gelu(const Tensor& x, GeluOptions options = {});
WEFT_API Tensor softplus(const Tensor& x, double beta = 1.0, double threshold = 20.0);
WEFT_API Tensor elu(const Tensor& x, double alpha = 1.0);
WEFT_API Tensor leaky_relu(const Tensor& x, double negative_slope = 0.01);
WEFT_API Tensor hardtanh(const Tensor& x, double min = -1.0, double max = 1.0);
/// Either bound may be absent, not both.
WEFT_API Tensor clamp(const Tensor& x, std::optional<Scalar> min, std::optional<Scalar> max = {});
/// First half times the sigmoid of the second half.
WEFT_API Tensor glu(const Tensor& x, int64_t dim = -1);

// ---- pointwise, two and three inputs; shapes broadcast, dtypes promote

#define WEFT_BINARY(name)                                 \
  WEFT_API Tensor name(const Tensor& a, const Tensor& b); \
  WEFT_API Tensor name(const Tensor& a, Scalar b);        \
  WEFT_API Tensor name(Scalar a, const Tensor& b);
WEFT_BINARY(add)
WEFT_BINARY(sub)
WEFT_BINARY(mul)
WEFT_BINARY(div)
WEFT_BINARY(pow)
WEFT_BINARY(maximum)
WEFT_BINARY(minimum)
WEFT_BINARY(atan2)
WEFT_BINARY(fmod)
WEFT_BINARY(remainder)
WEFT_BINARY(floor_divide)
WEFT_BINARY(eq)
WEFT_BINARY(ne)
WEFT_BINARY(lt)
WEFT_BINARY(le)
WEFT_BINARY(gt)
WEFT_BINARY(ge)
#undef WEFT_BINARY

WEFT_API Tensor logical_and(const Tensor& a, const Tensor& b);
WEFT_API Tensor logical_or(const Tensor& a, const Tensor& b);
WEFT_API Tensor logical_xor(const Tensor& a, const Tensor& b);
WEFT_API Tensor bitwise_and(const Tensor& a, const Tensor& b);
WEFT_API Tensor bitwise_or(const Tensor& a, const Tensor& b);
WEFT_API Tensor bitwise_xor(const Tensor& a, const Tensor& b);
WEFT_API Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b);
WEFT_API Tensor where(const Tensor& condition, const Tensor& a, Scalar b);
WEFT_API Tensor where(const Tensor& condition, Scalar a, const Tensor& b);
WEFT_API Tensor masked_fill(const Tensor& x, const Tensor& mask, Scalar value);
/// a + weight * (b - a)
WEFT_API Tensor lerp(const Tensor& a, const Tensor& b, double weight);
/// x + value * a * b, x + value * a / b
WEFT_API Tensor addcmul(const Tensor& x, const Tensor& a, const Tensor& b, double value = 1.0);
WEFT_API Tensor addcdiv(const Tensor& x, const Tensor& a, const Tensor& b, double value = 1.0);

inline Tensor operator+(const Tensor& a, const Tensor& b) { return add(a, b); }
inline Tensor operator-(const Tensor& a, const Tensor& b) { return sub(a, b); }
inline Tensor operator*(const Tensor& a, const Tensor& b) { return mul(a, b); }
inline Tensor operator/(const Tensor& a, const Tensor& b) { return div(a, b); }
inline Tensor operator+(const Tensor& a, Scalar b) { return add(a, b); }
inline Tensor operator-(const Tensor& a, Scalar b) { return sub(a, b); }
inline Tensor operator*(const Tensor& a, Scalar b) { return mul(a, b); }
inline Tensor operator/(const Tensor& a, Scalar b) { return div(a, b); }
inline Tensor operator+(Scalar a, const Tensor& b) { return add(a, b); }
inline Tensor operator-(Scalar a, const Tensor& b) { return sub(a, b); }
inline Tensor operator*(Scalar a, const Tensor& b) { return mul(a, b); }
inline Tensor operator/(Scalar a, const Tensor& b) { return div(a, b); }
inline Tensor operator-(const Tensor& a) { return neg(a); }

// ---- reductions; no dims means all

WEFT_API Tensor sum(const Tensor& x, const ReduceOptions& options = {});
WEFT_API Tensor mean(const Tensor& x, const ReduceOptions& options = {});
WEFT_API Tensor amax(const Tensor& x, const ReduceOptions& options = {});
WEFT_API Tensor amin(const Tensor& x, const ReduceOptions& options = {});
WEFT_API Tensor prod(const Tensor& x, const ReduceOptions& options = {});
WEFT_API Tensor all(const Tensor& x, const ReduceOptions& options = {});  ///< bool
WEFT_API Tensor any(const Tensor& x, const ReduceOptions& options = {});  ///< bool
WEFT_API Tensor var(const Tensor& x, const VarOptions& options = {});
WEFT_API Tensor std(const Tensor& x, const VarOptions& options = {});
/// (sum |x|^p)^(1/p)
WEFT_API Tensor norm(const Tensor& x, double p = 2.0, const ReduceOptions& options = {});
WEFT_API Tensor logsumexp(const Tensor& x, const ReduceOptions& options);
/// Largest or smallest element along a dim, and where it is (i64). Over all elements: value alone.
WEFT_API std::pair<Tensor, Tensor> max(const Tensor& x, int64_t dim, bool keepdim = false);
WEFT_API std::pair<Tensor, Tensor> min(const Tensor& x, int64_t dim, bool keepdim = false);
WEFT_API Tensor max(const Tensor& x);
WEFT_API Tensor min(const Tensor& x);
WEFT_API Tensor argmax(const Tensor& x, std::optional<int64_t> dim = {}, bool keepdim = false);
WEFT_API Tensor argmin(const Tensor& x, std::optional<int64_t> dim = {}, bool keepdim = false);
WEFT_API Tensor cumsum(const Tensor& x, int64_t dim);
WEFT_API Tensor cumprod(const Tensor& x, int64_t dim);
/// Elements in order along a dim, equal ones in the order in which they were, and where each was
/// (i64); NaN counts as largest.
WEFT_API std::pair<Tensor, Tensor> sort(const Tensor& x, int64_t dim = -1, bool descending = false);
WEFT_API Tensor argsort(const Tensor& x, int64_t dim = -1, bool descending = false);
/// The k largest (or smallest) elements along a dim in order, and where they are (i64).
WEFT_API std::pair<Tensor, Tensor> topk(const Tensor& x, int64_t k, int64_t dim = -1,
                                        bool largest = true);
/// `x` summed over what broadcasting added to `shape`.
WEFT_API Tensor sum_to(const Tensor& x, const Shape& shape);

// ---- joining and indexing

WEFT_API Tensor cat(const std::vector<Tensor>& tensors, int64_t dim = 0);
WEFT_API Tensor stack(const std::vector<Tensor>& tensors, int64_t dim = 0);
WEFT_API Tensor repeat(const Tensor& x, const Dims& repeats);
WEFT_API Tensor repeat_interleave(const Tensor& x, int64_t repeats, int64_t dim);
WEFT_API Tensor index_select(const Tensor& x, int64_t dim, const Tensor& index);
WEFT_API Tensor gather(const Tensor& x, int64_t dim, const Tensor& index);
WEFT_API Tensor scatter(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& source);
WEFT_API Tensor scatter_add(const Tensor& x, int64_t dim, const Tensor& index,
                            const Tensor& source);
WEFT_API Tensor index_add(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& source);
/// Rows of weight [n, d] at `indices` (i64); the row `padding_idx` gets no gradient.
WEFT_API Tensor embedding(const Tensor& indices, const Tensor& weight,
                          std::optional<int64_t> padding_idx = {});
WEFT_API Tensor one_hot(const Tensor& indices, int64_t num_classes);
WEFT_API Tensor tril(const Tensor& x, int64_t diagonal = 0);
WEFT_API Tensor triu(const Tensor& x, int64_t diagonal = 0);
WEFT_API Tensor flip(const Tensor& x, const Dims& dims);
WEFT_API Tensor roll(const Tensor& x, int64_t shifts, int64_t dim);
/// Zero (or `value`) padding; pairs (before, after) from the last dim on, as PyTorch's F.pad.
WEFT_API Tensor pad(const Tensor& x, const std::vector<int64_t>& padding, double value = 0.0);
WEFT_API Tensor pad(const Tensor& x, const std::vector<int64_t>& padding, PadMode mode);

// ---- matrix products, convolution, pooling

/// Products of vectors, matrices and batches of matrices by PyTorch's rules; batch dims broadcast.
WEFT_API Tensor matmul(const Tensor& a, const Tensor& b);
WEFT_API Tensor outer(const Tensor& a, const Tensor& b);
/// x [.., in] times weight [out, in] transposed, plus bias [out] where given.
WEFT_API Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {});
/// beta * c + alpha * a b
WEFT_API Tensor addmm(const Tensor& c, const Tensor& a, const Tensor& b, double beta = 1.0,
                      double alpha = 1.0);
/// x [n, c, h, w], weight [out, c / groups, kh, kw], bias [out] or empty.
WEFT_API Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias = {},
                       const Conv2dOptions& options = {});
WEFT_API Tensor max_pool2d(const Tensor& x, const Pool2dOptions& options);
WEFT_API Tensor avg_pool2d(const Tensor& x, const Pool2dOptions& options);
/// q [.., l, d], k and v [.., s, d]; softmax(q k^T * scale + mask) v.
WEFT_API Tensor scaled_dot_product_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                             const AttentionOptions& options = {});

// ---- normalisation, softmax, losses

WEFT_API Tensor softmax(const Tensor& x, int64_t dim);
WEFT_API Tensor log_softmax(const Tensor& x, int64_t dim);
/// Over the last dims, which `normalized_shape` names; weight and bias of that shape, or empty.
WEFT_API Tensor layer_norm(const Tensor& x, const Shape& normalized_shape,
                           const Tensor& weight = {}, const Tensor& bias = {}, double eps = 1e-5);
/// x / sqrt(mean(x^2) + eps) * weight. Without eps: the dtype's machine epsilon.
WEFT_API Tensor rms_norm(const Tensor& x, const Shape& normalized_shape, const Tensor& weight = {},
                         std::optional<double> eps = {});
/// x [n, c, …]: each of num_groups groups of channels normalised; weight and bias [c] or empty.
WEFT_API Tensor group_norm(const Tensor& x, int64_t num_groups, const Tensor& weight = {},
                           const Tensor& bias = {}, double eps = 1e-5);
/// Zeroes each element with probability p and scales the rest by 1 / (1 - p); identity when not
/// training.
WEFT_API Tensor dropout(const Tensor& x, double p = 0.5, bool training = true);
/// logits [n, c, …]; targets: class numbers [n, …] (i64) or probabilities like logits.
WEFT_API Tensor cross_entropy(const Tensor& logits, const Tensor& targets,
                              const CrossEntropyOptions& options = {});
/// log-probabilities [n, c, …], class numbers [n, …]
WEFT_API Tensor nll_loss(const Tensor& log_probabilities, const Tensor& targets,
                         const CrossEntropyOptions& options = {});
WEFT_API Tensor mse_loss(const Tensor& input, const Tensor& target, LossOptions options = {});
WEFT_API Tensor l1_loss(const Tensor& input, const Tensor& target, LossOptions options = {});
WEFT_API Tensor smooth_l1_loss(const Tensor& input, const Tensor& target, LossOptions options = {});
WEFT_API Tensor huber_loss(const Tensor& input, const Tensor& target, LossOptions options = {});
WEFT_API Tensor binary_cross_entropy(const Tensor& input, const Tensor& target,
                                     LossOptions options = {});
WEFT_API Tensor binary_cross_entropy_with_logits(const Tensor& input, const Tensor& target,
                                                 LossOptions options = {});
/// target * (log target - input), pointwise; "batchmean" sums and divides by the first size.
WEFT_API Tensor kl_div(const Tensor& input, const Tensor& target, LossOptions options = {});
WEFT_API Tensor cosine_similarity(const Tensor& a, const Tensor& b, int64_t dim = 1,
                                  double eps = 1e-8);
WEFT_API Tensor normalize(const Tensor& x, double p = 2.0, int64_t dim = 1, double eps = 1e-12);

}  // namespace weft::inline v0
