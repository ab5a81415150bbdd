// Convolution: values against plain loops, gradients in f32 (oneDNN) against f64 (products).
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include <weft/autograd/autograd.hpp>
#include <weft/core/base/error.hpp>
#include <weft/core/base/parallel.hpp>
#include <weft/core/ops.hpp>
#include <weft/core/random.hpp>
#include <weft/tests/support/errors.hpp>

using namespace weft;
using weft::test::check_error;

namespace {

struct Case {
  Shape x, weight;
  Conv2dOptions options;
};

const std::vector<Case>& cases() {
  static const std::vector<Case> all = {
      {{2, 4, 7, 6}, {6, 4, 3, 3}, {.padding = 1}},
      {{2, 4, 7, 6}, {6, 2, 2, 2}, {.stride = 2, .padding = 1, .dilation = 2, .groups = 2}},
      {{2, 6, 8, 8}, {6, 1, 3, 3}, {.padding = 1, .groups = 6}},
      {{1, 3, 5, 9}, {4, 3, 1, 1}, {}},
      {{3, 1, 8, 8}, {16, 1, 5, 3}, {.stride = {2, 1}, .padding = {2, 0}}},
      {{5, 16, 6, 6}, {32, 16, 3, 3}, {.stride = 3, .padding = {1, 2}, .dilation = {1, 2}}},
      {{2, 32, 9, 9}, {32, 8, 3, 3}, {.padding = 1, .groups = 4}},
  };
  return all;
}

std::vector<double> plain_conv(const Tensor& x, const Tensor& weight, const Tensor& bias,
                               const Conv2dOptions& o, const Shape& shape) {
  const auto in = x.to(DType::f64).to_vector<double>();
  const auto kernel = weight.to(DType::f64).to_vector<double>();
  const auto added = bias.to(DType::f64).to_vector<double>();
  const int64_t c = x.size(1), h = x.size(2), w = x.size(3), kc = weight.size(1),
                kh = weight.size(2), kw = weight.size(3);
  const int64_t outs = weight.size(0) / o.groups;
  std::vector<double> result;
  for (int64_t n = 0; n < shape[0]; ++n)
    for (int64_t out = 0; out < shape[1]; ++out)
      for (int64_t y = 0; y < shape[2]; ++y)
        for (int64_t z = 0; z < shape[3]; ++z) {
          double sum = added[static_cast<size_t>(out)];
          for (int64_t k = 0; k < kc * kh * kw; ++k) {
            const int64_t channel = out / outs * kc + k / (kh * kw);
            const int64_t row = y * o.stride.h - o.padding.h + k / kw % kh * o.dilation.h;
            const int64_t column = z * o.stride.w - o.padding.w + k % kw * o.dilation.w;
            if (row < 0 || row >= h || column < 0 || column >= w) continue;
            sum += in[static_cast<size_t>(((n * c + channel) * h + row) * w + column)] *
                   kernel[static_cast<size_t>(out * kc * kh * kw + k)];
          }
          result.push_back(sum);
        }
  return result;
}

double difference(const Tensor& got, const std::vector<double>& expected) {
  const auto values = got.to(DType::f64).to_vector<double>();
  REQUIRE(values.size() == expected.size());
  double worst = 0, largest = 1e-30;
  for (size_t i = 0; i < values.size(); ++i) {
    worst = std::max(worst, std::fabs(values[i] - expected[i]));
    largest = std::max(largest, std::fabs(expected[i]));
  }
  return worst / largest;
}

double bound(DType dtype) {
  return dtype == DType::f64   ? 1e-13
         : dtype == DType::f32 ? 3e-6
         : dtype == DType::f16 ? 2e-3
                               : 1.6e-2;
}

// Result and gradients of x, weight and bias for a fixed cotangent.
std::vector<Tensor> pass(const Case& c, const Tensor& x, const Tensor& weight, const Tensor& bias) {
  const Tensor a = x.detach().requires_grad_(), b = weight.detach().requires_grad_(),
               d = bias.detach().requires_grad_();
  const Tensor y = conv2d(a, b, d, c.options);
  // Eighths, which every dtype holds exactly.
  const Tensor waves = cos(arange(0, y.numel(), 1, {.dtype = DType::f64})) * 8.0;
  const Tensor g = (round(waves) / 8.0).reshape(y.shape());
  auto grads = grad({y}, {a, b, d}, {.grad_outputs = {g.to(y.dtype())}});
  grads.insert(grads.begin(), y.detach());
  return grads;
}

}  // namespace

TEST_CASE("conv2d agrees with plain loops, its gradients with f64") {
  manual_seed(11);
  for (const Case& c : cases()) {
    CAPTURE(to_string(c.x));
    CAPTURE(to_string(c.weight));
    const Tensor x = randn(c.x), weight = randn(c.weight), bias = randn({c.weight[0]});
    const auto reference = pass(c, x.to(DType::f64), weight.to(DType::f64), bias.to(DType::f64));
    const auto plain = plain_conv(x, weight, bias, c.options, reference[0].shape());
    CHECK(difference(reference[0], plain) <= 1e-13);
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
      CAPTURE(name_of(dtype));
      const Tensor a = x.to(dtype), b = weight.to(dtype), d = bias.to(dtype);
      const auto exact = pass(c, a.to(DType::f64), b.to(DType::f64), d.to(DType::f64));
      const auto got = pass(c, a, b, d);
      for (size_t i = 0; i < 4; ++i) {
        CAPTURE(i);
        CHECK(got[i].dtype() == dtype);
        CHECK(got[i].shape() == exact[i].shape());
        CHECK(difference(got[i], exact[i].to_vector<double>()) <= bound(dtype));
      }
    }
  }
}

TEST_CASE("conv2d has first and second derivatives") {
  manual_seed(12);
  const TensorOptions options{.dtype = DType::f64};
  for (const Conv2dOptions& o :
       {Conv2dOptions{.padding = 1}, Conv2dOptions{.stride = 2, .dilation = 2, .groups = 2}}) {
    const std::vector<Tensor> inputs = {randn({2, 4, 5, 6}, options).requires_grad_(),
                                        randn({2, 4 / o.groups, 2, 3}, options).requires_grad_(),
                                        randn({2}, options).requires_grad_()};
    const auto fn = [&](const std::vector<Tensor>& in) { return conv2d(in[0], in[1], in[2], o); };
    CHECK(gradcheck(fn, inputs, {.second_order = true}) == "");
  }
}

TEST_CASE("conv2d takes strided inputs, one image, and an empty batch") {
  manual_seed(13);
  const Tensor x = randn({2, 6, 6, 3}).permute({0, 3, 1, 2});
  const Tensor weight = randn({3, 3, 4, 5}).permute({3, 0, 1, 2}).slice(3, 0, 4, 2);
  const Tensor bias = randn({10}).slice(0, 0, 10, 2);
  const Tensor expected = conv2d(x.contiguous(), weight.contiguous(), bias.contiguous());
  CHECK(conv2d(x, weight, bias).to_vector<float>() == expected.to_vector<float>());
  const Tensor one = conv2d(x.select(0, 1), weight, bias);
  CHECK(one.shape() == Shape({5, 4, 5}));
  CHECK(difference(one, expected.select(0, 1).to(DType::f64).to_vector<double>()) <= 1e-6);

  const Tensor none = zeros({0, 3, 6, 6}).requires_grad_();
  const Tensor w = randn({5, 3, 3, 3}).requires_grad_();
  const Tensor y = conv2d(none, w);
  CHECK(y.shape() == Shape({0, 5, 4, 4}));
  sum(y).backward();
  CHECK(none.grad().shape() == none.shape());
  CHECK(w.grad().to_vector<float>() == std::vector<float>(5 * 3 * 3 * 3, 0.0f));
}

TEST_CASE("conv2d's weight gradient is equal to the bit for any number of threads") {
  manual_seed(14);
  const int threads = num_threads();
  const bool deterministic = is_deterministic();
  set_deterministic(true);
  const Case c{{12, 16, 14, 14}, {16, 16, 3, 3}, {.padding = 1}};
  const Tensor x = randn(c.x), weight = randn(c.weight), bias = randn({16});
  set_num_threads(1);
  const auto one = pass(c, x, weight, bias);
  set_num_threads(3);
  const auto three = pass(c, x, weight, bias);
  set_num_threads(threads);
  set_deterministic(deterministic);
  for (size_t i = 0; i < 4; ++i) {
    CAPTURE(i);
    CHECK(one[i].to_vector<float>() == three[i].to_vector<float>());
  }
}

TEST_CASE("conv2d refuses what does not fit") {
  const Tensor x = zeros({2, 3, 8, 8}), w = zeros({4, 3, 3, 3});
  check_error<ArgumentError>("conv2d_rank", [&] { conv2d(x, zeros({4, 3})); });
  check_error<ArgumentError>("conv2d_channels", [&] { conv2d(x, zeros({4, 2, 3, 3})); });
  check_error<ArgumentError>("conv2d_groups", [&] {
    conv2d(x, zeros({4, 1, 3, 3}), {}, {.groups = 3});
  });
  check_error<ArgumentError>("conv2d_size", [&] { conv2d(x, zeros({4, 3, 9, 9})); });
  check_error<ArgumentError>("conv2d_bias", [&] { conv2d(x, w, zeros({5})); });
  check_error<ArgumentError>("conv2d_dtypes", [&] { conv2d(x, w.to(DType::f64)); });
  check_error<ArgumentError>("conv2d_integers",
                             [&] { conv2d(x.to(DType::i32), w.to(DType::i32)); });
  check_error<ArgumentError>("conv2d_empty", [&] { conv2d(zeros({2, 3, 0, 8}), w); });
  check_error<ArgumentError>("conv2d_stride", [&] { conv2d(x, w, {}, {.stride = 0}); });
  check_error<ArgumentError>("conv2d_padding", [&] { conv2d(x, w, {}, {.padding = -1}); });
  check_error<ArgumentError>("conv2d_dilation", [&] { conv2d(x, w, {}, {.dilation = {1, 0}}); });
  check_error<ArgumentError>("conv2d_no_groups", [&] { conv2d(x, w, {}, {.groups = 0}); });
}
