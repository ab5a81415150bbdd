// First values of parameters, after PyTorch's torch.nn.init.
#pragma once

#include <cstdint>

#include <weft/core/tensor.hpp>

namespace weft::inline v0::nn {

/// How a parameter gets its first values: kept as data, so that a model built on meta can be filled
/// later by the same rule.
struct WEFT_API Init {
  enum class Kind : uint8_t { none, constant, uniform, normal, trunc_normal };
  Kind kind = Kind::none;
  double a = 0;           ///< constant; lower bound; mean
  double b = 0;           ///< upper bound; standard deviation
  int64_t zero_row = -1;  ///< a row that becomes 0 (an embedding's padding); -1: none

  static Init none() { return {}; }  ///< memory as it comes
  static Init zeros() { return constant(0); }
  static Init ones() { return constant(1); }
  static Init constant(double value) { return {Kind::constant, value, 0, -1}; }
  static Init uniform(double low, double high) { return {Kind::uniform, low, high, -1}; }
  static Init normal(double mean = 0, double std = 1) { return {Kind::normal, mean, std, -1}; }
  static Init trunc_normal(double mean = 0, double std = 1) {
    return {Kind::trunc_normal, mean, std, -1};
  }
  /// uniform(-1 / sqrt(fan_in), 1 / sqrt(fan_in)): what kaiming_uniform with a = sqrt(5) comes to,
  /// PyTorch's default for linear layers and convolutions.
  static Init fan_in_uniform(int64_t fan_in);

  /// Fills `tensor` in place, unrecorded; nothing on meta. Throws ArgumentError for random numbers
  /// into a tensor that is not of a floating-point dtype.
  void fill(Tensor tensor) const;
};

namespace init {

// Each fills `tensor` in place, unrecorded, from the default generator; nothing happens on meta.
WEFT_API void zeros_(Tensor tensor);
WEFT_API void ones_(Tensor tensor);
WEFT_API void constant_(Tensor tensor, double value);
WEFT_API void uniform_(Tensor tensor, double low = 0.0, double high = 1.0);
WEFT_API void normal_(Tensor tensor, double mean = 0.0, double std = 1.0);
/// normal(mean, std) limited to [low, high], by the inverse of the distribution function.
WEFT_API void trunc_normal_(Tensor tensor, double mean = 0.0, double std = 1.0, double low = -2.0,
                            double high = 2.0);
/// Glorot and Bengio, 2010: the variance is 2 / (fan_in + fan_out), times gain^2.
WEFT_API void xavier_uniform_(Tensor tensor, double gain = 1.0);
WEFT_API void xavier_normal_(Tensor tensor, double gain = 1.0);

enum class FanMode : uint8_t { fan_in, fan_out };
enum class Nonlinearity : uint8_t { linear, sigmoid, tanh, relu, leaky_relu, selu };

struct KaimingOptions {
  double a = 0;  ///< negative slope of leaky_relu
  FanMode mode = FanMode::fan_in;
  Nonlinearity nonlinearity = Nonlinearity::leaky_relu;
};

/// He et al., 2015: the variance is gain^2 / fan.
WEFT_API void kaiming_uniform_(Tensor tensor, KaimingOptions options = {});
WEFT_API void kaiming_normal_(Tensor tensor, KaimingOptions options = {});

/// Factor by which a nonlinearity's input should be spread; `a` is leaky_relu's slope.
WEFT_API double calculate_gain(Nonlinearity nonlinearity, double a = 0.01);

struct Fans {
  int64_t in, out;
};
/// Inputs and outputs of one unit of a weight [out, in, kernel…]. Throws ArgumentError below two
/// dims.
WEFT_API Fans calculate_fans(const Tensor& tensor);

}  // namespace init

}  // namespace weft::inline v0::nn
