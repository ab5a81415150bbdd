// Layers without parameters: activations, pooling, dropout, shape changes.
#pragma once

#include <cstdint>

#include <weft/core/ops.hpp>
#include <weft/nn/layer.hpp>

namespace weft::inline v0::nn {

struct WEFT_API Identity : Layer<Identity> {
  explicit Identity(const At& at) : Layer(at) {}
  Tensor forward(const Tensor& x) const { return x; }
};

struct WEFT_API ReLU : Layer<ReLU> {
  explicit ReLU(const At& at) : Layer(at) {}
  Tensor forward(const Tensor& x) const { return relu(x); }
};

/// x * Phi(x), exact or by tanh. Hendrycks and Gimpel, 2016.
struct WEFT_API GELU : Layer<GELU> {
  explicit GELU(const At& at, GeluOptions options = {}) : Layer(at), options_(options) {}
  Tensor forward(const Tensor& x) const { return gelu(x, options_); }

 private:
  GeluOptions options_;
};

/// x * sigmoid(x).
struct WEFT_API SiLU : Layer<SiLU> {
  explicit SiLU(const At& at) : Layer(at) {}
  Tensor forward(const Tensor& x) const { return silu(x); }
};

struct WEFT_API Tanh : Layer<Tanh> {
  explicit Tanh(const At& at) : Layer(at) {}
  Tensor forward(const Tensor& x) const { return tanh(x); }
};

struct WEFT_API Sigmoid : Layer<Sigmoid> {
  explicit Sigmoid(const At& at) : Layer(at) {}
  Tensor forward(const Tensor& x) const { return sigmoid(x); }
};

struct WEFT_API LeakyReLU : Layer<LeakyReLU> {
  explicit LeakyReLU(const At& at, double negative_slope = 0.01)
      : Layer(at), negative_slope_(negative_slope) {}
  Tensor forward(const Tensor& x) const { return leaky_relu(x, negative_slope_); }

 private:
  double negative_slope_;
};

struct WEFT_API Softmax : Layer<Softmax> {
  explicit Softmax(const At& at, int64_t dim = -1) : Layer(at), dim_(dim) {}
  Tensor forward(const Tensor& x) const { return softmax(x, dim_); }

 private:
  int64_t dim_;
};

struct WEFT_API LogSoftmax : Layer<LogSoftmax> {
  explicit LogSoftmax(const At& at, int64_t dim = -1) : Layer(at), dim_(dim) {}
  Tensor forward(const Tensor& x) const { return log_softmax(x, dim_); }

 private:
  int64_t dim_;
};

/// In training, zeroes elements with probability p and scales the rest by 1 / (1 - p). Srivastava
/// et al., 2014.
struct WEFT_API Dropout : Layer<Dropout> {
  /// Throws ArgumentError for p outside [0, 1].
  explicit Dropout(const At& at, double p = 0.5);
  Tensor forward(const Tensor& x) const { return dropout(x, p_, is_training()); }

 private:
  double p_;
};

/// x [n, c, h, w]: the largest value of each window.
struct WEFT_API MaxPool2d : Layer<MaxPool2d> {
  explicit MaxPool2d(const At& at, Pool2dOptions options) : Layer(at), options_(options) {}
  /// Windows of `kernel_size` that do not overlap.
  explicit MaxPool2d(const At& at, int64_t kernel_size)
      : MaxPool2d(at, Pool2dOptions{.kernel_size = kernel_size}) {}
  Tensor forward(const Tensor& x) const { return max_pool2d(x, options_); }

 private:
  Pool2dOptions options_;
};

/// Merges dims start … end; all but the first unless told.
struct WEFT_API Flatten : Layer<Flatten> {
  explicit Flatten(const At& at, int64_t start_dim = 1, int64_t end_dim = -1)
      : Layer(at), start_(start_dim), end_(end_dim) {}
  Tensor forward(const Tensor& x) const { return x.flatten(start_, end_); }

 private:
  int64_t start_, end_;
};

}  // namespace weft::inline v0::nn
