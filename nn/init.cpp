#include <weft/nn/init.hpp>

#include <cmath>
#include <vector>

#include <weft/autograd/autograd.hpp>
#include <weft/core/base/check.hpp>
#include <weft/core/ops.hpp>

namespace weft::inline v0::nn {

Init Init::fan_in_uniform(int64_t fan_in) {
  const double bound = fan_in > 0 ? 1.0 / std::sqrt(static_cast<double>(fan_in)) : 0.0;
  return uniform(-bound, bound);
}

void Init::fill(Tensor tensor) const {
  switch (kind) {
    case Kind::none: break;
    case Kind::constant: init::constant_(tensor, a); break;
    case Kind::uniform: init::uniform_(tensor, a, b); break;
    case Kind::normal: init::normal_(tensor, a, b); break;
    case Kind::trunc_normal: init::trunc_normal_(tensor, a, b, a - 2 * b, a + 2 * b); break;
  }
  if (zero_row >= 0) init::zeros_(tensor.detach().select(0, zero_row));
}

namespace init {

namespace {

void check_floating(const char* name, const Tensor& tensor) {
  WEFT_CHECK(ArgumentError, is_floating(tensor.dtype()),
             "{}: random numbers need a floating-point tensor, got {} {}", name,
             name_of(tensor.dtype()), to_string(tensor.shape()));
}

bool has_values(const Tensor& tensor) { return !tensor.device().is_meta() && tensor.numel() > 0; }

// Drawn in f32 at least: 16-bit steps would be visible near 0.
TensorOptions drawn(const Tensor& tensor) {
  return {.dtype = tensor.dtype() == DType::f64 ? DType::f64 : DType::f32,
          .device = tensor.device()};
}

/// The inverse of the error function, |y| < 1: Giles, Approximating the erfinv function, 2010, then
/// one Newton step to full double precision.
double erfinv(double y) {
  double w = -std::log((1.0 - y) * (1.0 + y));
  double p;
  if (w < 5.0) {
    w -= 2.5;
    constexpr double kCentral[] = {2.81022636e-08,  3.43273939e-07, -3.5233877e-06,
                                   -4.39150654e-06, 0.00021858087,  -0.00125372503,
                                   -0.00417768164,  0.246640727,    1.50140941};
    p = 0;
    for (const double c : kCentral) p = p * w + c;
  } else {
    w = std::sqrt(w) - 3.0;
    constexpr double kTail[] = {-0.000200214257, 0.000100950558, 0.00134934322,
                                -0.00367342844,  0.00573950773,  -0.0076224613,
                                0.00943887047,   1.00167406,     2.83297682};
    p = 0;
    for (const double c : kTail) p = p * w + c;
  }
  const double x = p * y;
  constexpr double kHalfRootPi = 0.88622692545275801365;
  return x - (std::erf(x) - y) * kHalfRootPi * std::exp(x * x);
}

double normal_cdf(double x) { return 0.5 * (1.0 + std::erf(x / std::sqrt(2.0))); }

double fan_of(const Fans& fans, FanMode mode) {
  return static_cast<double>(mode == FanMode::fan_in ? fans.in : fans.out);
}

}  // namespace

void constant_(Tensor tensor, double value) {
  if (!has_values(tensor)) return;
  const NoGrad guard;
  tensor.fill_(value);
}

void zeros_(Tensor tensor) { constant_(std::move(tensor), 0); }
void ones_(Tensor tensor) { constant_(std::move(tensor), 1); }

void uniform_(Tensor tensor, double low, double high) {
  check_floating("uniform_", tensor);
  WEFT_CHECK(ArgumentError, low <= high, "uniform_: low {} is above high {}", low, high);
  if (!has_values(tensor)) return;
  const NoGrad guard;
  Tensor values = rand(tensor.shape(), drawn(tensor));
  values.mul_(high - low).add_(low);
  tensor.copy_(values);
}

void normal_(Tensor tensor, double mean, double std) {
  check_floating("normal_", tensor);
  WEFT_CHECK(ArgumentError, std >= 0, "normal_: the standard deviation {} is negative", std);
  if (!has_values(tensor)) return;
  const NoGrad guard;
  Tensor values = randn(tensor.shape(), drawn(tensor));
  values.mul_(std).add_(mean);
  tensor.copy_(values);
}

void trunc_normal_(Tensor tensor, double mean, double std, double low, double high) {
  check_floating("trunc_normal_", tensor);
  WEFT_CHECK(ArgumentError, std > 0, "trunc_normal_: the standard deviation {} is not above 0",
             std);
  WEFT_CHECK(ArgumentError, low < high, "trunc_normal_: low {} is not below high {}", low, high);
  if (!has_values(tensor)) return;
  const NoGrad guard;
  const double from = 2 * normal_cdf((low - mean) / std) - 1;
  const double to = 2 * normal_cdf((high - mean) / std) - 1;
  std::vector<double> values = rand(tensor.shape(), {.dtype = DType::f64}).to_vector<double>();
  for (double& value : values) {
    const double x = mean + std * std::sqrt(2.0) * erfinv(from + (to - from) * value);
    value = x < low ? low : x > high ? high : x;
  }
  tensor.copy_(from_host(values.data(), tensor.shape(), DType::f64, tensor.device()));
}

Fans calculate_fans(const Tensor& tensor) {
  WEFT_CHECK(ArgumentError, tensor.dim() >= 2,
             "init: fan in and fan out need at least 2 dims [out, in, ...]; the tensor has shape "
             "{}",
             to_string(tensor.shape()));
  int64_t field = 1;
  for (int i = 2; i < tensor.dim(); ++i) field *= tensor.shape()[i];
  return {tensor.shape()[1] * field, tensor.shape()[0] * field};
}

double calculate_gain(Nonlinearity nonlinearity, double a) {
  switch (nonlinearity) {
    case Nonlinearity::linear:
    case Nonlinearity::sigmoid: return 1.0;
    case Nonlinearity::tanh: return 5.0 / 3.0;
    case Nonlinearity::relu: return std::sqrt(2.0);
    case Nonlinearity::leaky_relu: return std::sqrt(2.0 / (1.0 + a * a));
    case Nonlinearity::selu: return 0.75;
  }
  return 1.0;
}

void xavier_uniform_(Tensor tensor, double gain) {
  const Fans fans = calculate_fans(tensor);
  const double bound = gain * std::sqrt(6.0 / static_cast<double>(fans.in + fans.out));
  uniform_(std::move(tensor), -bound, bound);
}

void xavier_normal_(Tensor tensor, double gain) {
  const Fans fans = calculate_fans(tensor);
  normal_(std::move(tensor), 0, gain * std::sqrt(2.0 / static_cast<double>(fans.in + fans.out)));
}

void kaiming_uniform_(Tensor tensor, KaimingOptions options) {
  const double fan = fan_of(calculate_fans(tensor), options.mode);
  const double bound =
      calculate_gain(options.nonlinearity, options.a) * std::sqrt(3.0 / std::max(fan, 1.0));
  uniform_(std::move(tensor), -bound, bound);
}

void kaiming_normal_(Tensor tensor, KaimingOptions options) {
  const double fan = fan_of(calculate_fans(tensor), options.mode);
  normal_(std::move(tensor), 0,
          calculate_gain(options.nonlinearity, options.a) / std::sqrt(std::max(fan, 1.0)));
}

}  // namespace init

}  // namespace weft::inline v0::nn
