// layer_norm, rms_norm, group_norm: values by their definitions, dtypes, gradients, errors.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
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

double worst_difference(const Tensor& got, const Tensor& expected) {
  REQUIRE(got.shape() == expected.shape());
  const auto a = got.to(DType::f64).to_vector<double>();
  const auto b = expected.to(DType::f64).to_vector<double>();
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::fabs(a[i] - b[i]));
  return worst;
}

double bound_of(DType dtype) {
  return dtype == DType::f64   ? 1e-13
         : dtype == DType::f32 ? 5e-6
         : dtype == DType::f16 ? 8e-3
                               : 6e-2;
}

/// The eps of rms_norm where none is given.
double epsilon_of(DType dtype) {
  return dtype == DType::f64   ? 0x1p-52
         : dtype == DType::f32 ? 0x1p-23
         : dtype == DType::f16 ? 0x1p-10
                               : 0x1p-7;
}

/// (x - mean) / sqrt(variance + eps) over `dims`, in small f64 ops.
Tensor plain_norm(const Tensor& x, const DimList& dims, double eps, bool centred) {
  const Tensor wide = x.to(DType::f64);
  const ReduceOptions along{.dim = dims, .keepdim = true};
  const Tensor middle = centred ? wide - mean(wide, along) : wide;
  return middle / sqrt(mean(square(middle), along) + eps);
}

}  // namespace

TEST_CASE("norms by their definitions") {
  manual_seed(16);
  for (const DType dtype : {DType::f32, DType::f64, DType::f16, DType::bf16}) {
    CAPTURE(name_of(dtype));
    const double bound = bound_of(dtype);
    const Tensor x = (randn({3, 6, 37}) * 2.0 + 1.0).to(dtype);
    const Tensor w = randn({37}).to(dtype), b = randn({37}).to(dtype);
    const Tensor wide = plain_norm(x, {2}, 1e-5, true);
    CHECK(layer_norm(x, {37}).dtype() == dtype);
    CHECK(worst_difference(layer_norm(x, {37}), wide) < bound);
    CHECK(worst_difference(layer_norm(x, {37}, w, b), wide * w + b) < bound);
    CHECK(worst_difference(layer_norm(x, {37}, {}, b), wide + b) < bound);
    CHECK(worst_difference(layer_norm(x, {6, 37}, {}, {}, 0.1), plain_norm(x, {1, 2}, 0.1, true)) <
          bound);
    CHECK(worst_difference(rms_norm(x, {37}, w, 1e-6), plain_norm(x, {2}, 1e-6, false) * w) <
          bound);
    CHECK(worst_difference(rms_norm(x, {37}), plain_norm(x, {2}, epsilon_of(dtype), false)) <
          bound);
    const Tensor turned = x.transpose(0, 2);  // [37, 6, 3]
    CHECK(worst_difference(layer_norm(turned, {3}), plain_norm(turned, {2}, 1e-5, true)) <
          2 * bound);
    const Tensor grouped = plain_norm(x.reshape({3, 2, 3 * 37}), {2}, 1e-5, true);
    const Tensor gw = randn({6}).to(dtype), gb = randn({6}).to(dtype);
    const Tensor expected =
        grouped.reshape({3, 6, 37}) * gw.reshape({1, 6, 1}) + gb.reshape({1, 6, 1});
    CHECK(worst_difference(group_norm(x, 2, gw, gb), expected) < bound);
  }
}

TEST_CASE("norms of nothing") {
  CHECK(layer_norm(zeros({0, 4}), {4}).shape() == Shape{0, 4});
  CHECK(rms_norm(zeros({0, 4}), {4}).shape() == Shape{0, 4});
  CHECK(group_norm(zeros({0, 4, 2}), 2).shape() == Shape{0, 4, 2});
  const Tensor x = zeros({0, 4}, {.requires_grad = true});
  const Tensor w = ones({4}, {.requires_grad = true});
  sum(layer_norm(x, {4}, w)).backward();
  CHECK(w.grad().to_vector<float>() == std::vector<float>{0, 0, 0, 0});
}

TEST_CASE("gradients of norms are the same for any number of threads") {
  manual_seed(17);
  const Tensor x = randn({2000, 130}), upstream = randn({2000, 130});
  const auto run = [&](int threads) {
    const int before = num_threads();
    set_num_threads(threads);
    const Tensor in = x.detach().requires_grad_();
    const Tensor w = ones({130}, {.requires_grad = true}),
                 b = zeros({130}, {.requires_grad = true});
    layer_norm(in, {130}, w, b).backward(upstream);
    set_num_threads(before);
    std::vector<float> values = in.grad().to_vector<float>();
    for (const float v : w.grad().to_vector<float>()) values.push_back(v);
    for (const float v : b.grad().to_vector<float>()) values.push_back(v);
    return values;
  };
  CHECK(run(1) == run(4));
}

TEST_CASE("derivatives of norms") {
  manual_seed(18);
  const TensorOptions f64{.dtype = DType::f64, .requires_grad = true};
  const Tensor x = randn({3, 4, 5}, f64), w = randn({5}, f64), b = randn({5}, f64);
  const Tensor cw = randn({4}, f64), cb = randn({4}, f64);
  using In = std::vector<Tensor>;
  const GradcheckOptions second{.second_order = true};
  CHECK(gradcheck([](const In& in) { return layer_norm(in[0], {5}, in[1], in[2]); }, {x, w, b},
                  second) == "");
  CHECK(gradcheck([](const In& in) { return layer_norm(in[0], {4, 5}); }, {x}, second) == "");
  CHECK(gradcheck([](const In& in) { return layer_norm(in[0], {5}, {}, in[1]); }, {x, b}, second) ==
        "");
  CHECK(gradcheck([](const In& in) { return rms_norm(in[0], {5}, in[1]); }, {x, w}, second) == "");
  CHECK(gradcheck([](const In& in) { return rms_norm(in[0], {5}); }, {x}, second) == "");
  CHECK(gradcheck([](const In& in) { return group_norm(in[0], 2, in[1], in[2]); }, {x, cw, cb},
                  second) == "");
  CHECK(gradcheck([](const In& in) { return group_norm(in[0], 4); }, {x}, second) == "");
}

TEST_CASE("norms refuse what does not fit") {
  const Tensor x = zeros({2, 4});
  check_error<ArgumentError>("layer_norm_shape", [&] { layer_norm(x, {3}); });
  check_error<ArgumentError>("layer_norm_no_shape", [&] { layer_norm(x, {}); });
  check_error<ArgumentError>("layer_norm_weight", [&] { layer_norm(x, {4}, ones({3})); });
  check_error<ArgumentError>("layer_norm_bias", [&] { layer_norm(x, {4}, ones({4}), ones({5})); });
  check_error<ArgumentError>("layer_norm_dtypes",
                             [&] { layer_norm(x, {4}, ones({4}, {.dtype = DType::bf16})); });
  check_error<ArgumentError>("rms_norm_shape", [&] { rms_norm(x, {2, 5}); });
  check_error<ArgumentError>("rms_norm_integers", [] { rms_norm(tensor({1, 2}), {2}); });
  check_error<ArgumentError>("group_norm_groups", [&] { group_norm(x, 3); });
  check_error<ArgumentError>("group_norm_rank", [] { group_norm(zeros({4}), 2); });
  check_error<ArgumentError>("group_norm_weight", [&] { group_norm(x, 2, ones({2})); });
}
