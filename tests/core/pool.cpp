// Pooling: values against plain loops, gradients, errors.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <weft/autograd/autograd.hpp>
#include <weft/core/base/error.hpp>
#include <weft/core/ops.hpp>
#include <weft/core/random.hpp>
#include <weft/tests/support/errors.hpp>

using namespace weft;
using weft::test::check_error;

namespace {

// One plane [h, w] by the definition.
std::vector<double> plain_pool(const std::vector<double>& x, int64_t h, int64_t w, int64_t oh,
                               int64_t ow, const Pool2dOptions& o, bool largest) {
  const Pair stride = o.stride.value_or(o.kernel_size);
  std::vector<double> result;
  for (int64_t i = 0; i < oh; ++i)
    for (int64_t j = 0; j < ow; ++j) {
      double most = -std::numeric_limits<double>::infinity(), sum = 0;
      int64_t inside = 0, padded = 0;
      for (int64_t a = 0; a < o.kernel_size.h; ++a)
        for (int64_t b = 0; b < o.kernel_size.w; ++b) {
          const int64_t r = i * stride.h - o.padding.h + a * o.dilation.h;
          const int64_t c = j * stride.w - o.padding.w + b * o.dilation.w;
          if (r < h + o.padding.h && c < w + o.padding.w) ++padded;
          if (r < 0 || c < 0 || r >= h || c >= w) continue;
          ++inside;
          most = std::max(most, x[static_cast<size_t>(r * w + c)]);
          sum += x[static_cast<size_t>(r * w + c)];
        }
      const int64_t divisor = o.count_include_pad ? padded : inside;
      result.push_back(largest ? most : sum / static_cast<double>(divisor));
    }
  return result;
}

void check_pool(const Shape& shape, const Pool2dOptions& o, int64_t oh, int64_t ow, bool largest) {
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f16}) {
    CAPTURE(name_of(dtype));
    const Tensor x = randn(shape).to(dtype);
    const Tensor y = largest ? max_pool2d(x, o) : avg_pool2d(x, o);
    REQUIRE(y.size(-2) == oh);
    REQUIRE(y.size(-1) == ow);
    const Tensor planes = x.reshape({-1, shape[shape.rank() - 2] * shape[shape.rank() - 1]});
    const auto got = y.to(DType::f64).to_vector<double>();
    for (int64_t p = 0; p < planes.size(0); ++p) {
      const auto expected = plain_pool(planes.select(0, p).to(DType::f64).to_vector<double>(),
                                       x.size(-2), x.size(-1), oh, ow, o, largest);
      for (size_t i = 0; i < expected.size(); ++i) {
        const double value = got[static_cast<size_t>(p * oh * ow) + i];
        const double slack = dtype == DType::f64 ? 1e-14 : dtype == DType::f32 ? 1e-6 : 1e-2;
        CHECK(std::fabs(value - expected[i]) <= (largest ? 0.0 : slack));
      }
    }
  }
}

}  // namespace

TEST_CASE("pooling agrees with plain loops") {
  manual_seed(21);
  for (const bool largest : {true, false}) {
    CAPTURE(largest);
    check_pool({2, 3, 7, 8}, {.kernel_size = 2}, 3, 4, largest);
    check_pool({2, 3, 7, 8}, {.kernel_size = 3, .stride = 2, .padding = 1}, 4, 4, largest);
    check_pool({3, 7, 8}, {.kernel_size = {3, 2}, .stride = Pair(1, 3)}, 5, 3, largest);
    check_pool({1, 2, 7, 8}, {.kernel_size = 2, .ceil_mode = true}, 4, 4, largest);
    check_pool({1, 2, 7, 7}, {.kernel_size = 3, .stride = 2, .padding = 1, .ceil_mode = true}, 4, 4,
               largest);
    check_pool({1, 1, 5, 5}, {.kernel_size = 2, .stride = 3, .padding = 1, .ceil_mode = true}, 2, 2,
               largest);
  }
  check_pool({2, 2, 9, 9}, {.kernel_size = 3, .stride = 2, .padding = 2, .dilation = 2}, 5, 5,
             true);
  check_pool({2, 2, 7, 8},
             {.kernel_size = 3, .stride = 2, .padding = 1, .count_include_pad = false}, 4, 4,
             false);
}

TEST_CASE("max_pool2d sends the gradient to the first of the largest, and lets NaN through") {
  const Tensor x = zeros({1, 1, 4, 4}).requires_grad_();
  sum(max_pool2d(x, {.kernel_size = 2})).backward();
  CHECK(x.grad().to_vector<float>() ==
        std::vector<float>{1, 0, 1, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0});
  const Tensor y = max_pool2d(tensor({1.f, NAN, 3.f, 2.f}).reshape({1, 2, 2}), {.kernel_size = 2});
  CHECK(std::isnan(y.item<float>()));
}

TEST_CASE("pooling has first and second derivatives, also of strided inputs") {
  manual_seed(22);
  const TensorOptions options{.dtype = DType::f64};
  const Pool2dOptions o{.kernel_size = 3, .stride = 2, .padding = 1, .ceil_mode = true};
  const std::vector<Tensor> inputs = {randn({2, 5, 6, 2}, options).requires_grad_()};
  const auto largest = [&](const std::vector<Tensor>& in) {
    return max_pool2d(in[0].permute({0, 3, 1, 2}), o);
  };
  const auto mean = [&](const std::vector<Tensor>& in) {
    return avg_pool2d(in[0].permute({0, 3, 1, 2}), o);
  };
  CHECK(gradcheck(largest, inputs) == "");
  CHECK(gradcheck(mean, inputs, {.second_order = true}) == "");
  // Squares, so that the second derivative is not zero.
  const auto squares = [&](const std::vector<Tensor>& in) {
    const Tensor y = max_pool2d(in[0].permute({0, 3, 1, 2}), o);
    return y * y;
  };
  CHECK(gradcheck(squares, inputs, {.second_order = true}) == "");
}

TEST_CASE("pooling of an empty batch is empty") {
  CHECK(max_pool2d(zeros({0, 3, 4, 4}), {.kernel_size = 2}).shape() == Shape({0, 3, 2, 2}));
  CHECK(avg_pool2d(zeros({0, 3, 4, 4}), {.kernel_size = 2}).shape() == Shape({0, 3, 2, 2}));
}

TEST_CASE("pooling refuses what does not fit") {
  const Tensor x = zeros({1, 2, 6, 6});
  check_error<ArgumentError>("max_pool2d_rank", [&] {
    max_pool2d(zeros({6, 6}), {.kernel_size = 2});
  });
  check_error<ArgumentError>("max_pool2d_size", [&] { max_pool2d(x, {.kernel_size = 7}); });
  check_error<ArgumentError>("max_pool2d_padding",
                             [&] { max_pool2d(x, {.kernel_size = 3, .padding = 2}); });
  check_error<ArgumentError>("max_pool2d_kernel", [&] { max_pool2d(x, {.kernel_size = 0}); });
  check_error<ArgumentError>("max_pool2d_integers",
                             [&] { max_pool2d(x.to(DType::i64), {.kernel_size = 2}); });
  check_error<ArgumentError>("avg_pool2d_dilation",
                             [&] { avg_pool2d(x, {.kernel_size = 2, .dilation = 2}); });
  check_error<ArgumentError>("avg_pool2d_padding",
                             [&] { avg_pool2d(x, {.kernel_size = 2, .padding = 2}); });
}
