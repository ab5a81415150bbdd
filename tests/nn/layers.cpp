// Layers: what they compute, their first values and their options.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include <weft/autograd/autograd.hpp>
#include <weft/core/base/error.hpp>
#include <weft/core/ops.hpp>
#include <weft/core/random.hpp>
#include <weft/nn/nn.hpp>
#include <weft/tests/support/errors.hpp>

using namespace weft;
using weft::test::check_error;

namespace {

struct Range {
  double low, high, mean, deviation;
};

Range range_of(const Tensor& tensor) {
  const std::vector<double> values = tensor.detach().to_vector<double>();
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  double sum = 0, squares = 0;
  for (const double v : values) {
    sum += v;
    squares += v * v;
  }
  const auto n = static_cast<double>(values.size());
  return {*low, *high, sum / n, std::sqrt(squares / n - sum / n * sum / n)};
}

bool same(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && a.to_vector<float>() == b.to_vector<float>();
}

}  // namespace

TEST_CASE("Linear and Conv2d start uniform within 1 / sqrt(fan in)") {
  manual_seed(3);
  nn::Linear linear_layer(nn::Place{}, 64, 100);
  for (const Tensor& t : {Tensor(linear_layer.weight), Tensor(linear_layer.bias)}) {
    const Range r = range_of(t);
    CHECK(r.low >= -0.125);
    CHECK(r.high <= 0.125);
    CHECK(r.high > 0.11);
    CHECK(r.low < -0.11);
  }
  CHECK(range_of(linear_layer.weight).deviation ==
        doctest::Approx(0.125 / std::sqrt(3.0)).epsilon(0.03));
  nn::Conv2d conv(nn::Place{}, 4, 6, {2, 8}, {.groups = 2});
  CHECK(conv.weight.shape() == Shape{6, 2, 2, 8});
  const double bound = 1 / std::sqrt(32.0);
  CHECK(range_of(conv.weight).high <= bound);
  CHECK(range_of(conv.weight).high > 0.9 * bound);
  check_error<ArgumentError>("conv2d_layer_groups",
                             [] { nn::Conv2d bad(nn::Place{}, 4, 6, 3, {.groups = 4}); });
}

TEST_CASE("layers call the function of their name") {
  const Tensor x = randn({2, 4, 6, 6});
  nn::Conv2d conv(nn::Place{}, 4, 8, 3, {.stride = 2, .padding = 1});
  CHECK(same(conv(x), conv2d(x, conv.weight, conv.bias, {.stride = 2, .padding = 1})));
  nn::Linear fc(nn::Place{}, 6, 3);
  CHECK(same(fc(x), linear(x, fc.weight, fc.bias)));
  nn::LayerNorm norm(nn::Place{}, 6);
  CHECK(same(norm(x), layer_norm(x, {6}, norm.weight, norm.bias)));
  nn::LayerNorm bare(nn::Place{}, {6, 6}, {.elementwise_affine = false});
  CHECK_FALSE(bare.weight.defined());
  CHECK(same(bare(x), layer_norm(x, {6, 6})));
  nn::RMSNorm rms(nn::Place{}, 6, {.eps = 1e-6});
  CHECK(same(rms(x), rms_norm(x, {6}, rms.weight, 1e-6)));
  nn::GroupNorm groups(nn::Place{}, 2, 4);
  CHECK(same(groups(x), group_norm(x, 2, groups.weight, groups.bias)));
  check_error<ArgumentError>("group_norm_layer", [] { nn::GroupNorm bad(nn::Place{}, 3, 4); });
  CHECK(same(nn::ReLU(nn::Place{})(x), relu(x)));
  CHECK(same(nn::GELU(nn::Place{})(x), gelu(x)));
  CHECK(same(nn::GELU(nn::Place{}, {.approximate = GeluApproximation::tanh})(x),
             gelu(x, {.approximate = GeluApproximation::tanh})));
  CHECK(same(nn::SiLU(nn::Place{})(x), silu(x)));
  CHECK(same(nn::Tanh(nn::Place{})(x), tanh(x)));
  CHECK(same(nn::Sigmoid(nn::Place{})(x), sigmoid(x)));
  CHECK(same(nn::LeakyReLU(nn::Place{}, 0.2)(x), leaky_relu(x, 0.2)));
  CHECK(same(nn::Softmax(nn::Place{}, 1)(x), softmax(x, 1)));
  CHECK(same(nn::LogSoftmax(nn::Place{})(x), log_softmax(x, -1)));
  CHECK(same(nn::Identity(nn::Place{})(x), x));
  CHECK(nn::Flatten(nn::Place{})(x).shape() == Shape{2, 144});
  CHECK(nn::Flatten(nn::Place{}, 0, 1)(x).shape() == Shape{8, 6, 6});
  CHECK(same(nn::MaxPool2d(nn::Place{}, 2)(x), max_pool2d(x, {.kernel_size = 2})));
}

TEST_CASE("Embedding looks up rows; the padding row is zero and gets no gradient") {
  nn::Embedding table(nn::Place{}, 5, 3, {.padding_idx = -1});
  CHECK(table.padding_idx() == std::optional<int64_t>(4));
  const std::vector<float> weights = table.weight.to_vector<float>();
  for (size_t i = 12; i < 15; ++i) CHECK(weights[i] == 0);
  const Tensor indices = tensor({0, 4, 0});
  const Tensor rows = table(indices);
  CHECK(rows.shape() == Shape{3, 3});
  sum(rows).backward();
  CHECK(table.weight.grad().to_vector<float>() ==
        std::vector<float>{2, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0});
  check_error<ArgumentError>("embedding_padding",
                             [] { nn::Embedding bad(nn::Place{}, 5, 3, {.padding_idx = 5}); });
}

TEST_CASE("Dropout drops in training and is the identity in evaluation") {
  nn::Dropout dropout_layer(nn::Place{}, 0.25);
  const Tensor x = ones({10000});
  int zeros_seen = 0;
  for (const float v : dropout_layer(x).to_vector<float>()) {
    zeros_seen += v == 0;
    CHECK((v == 0 || v == doctest::Approx(4.0 / 3)));
  }
  CHECK(zeros_seen > 2300);
  CHECK(zeros_seen < 2700);
  dropout_layer.eval();
  CHECK(same(dropout_layer(x), x));
  check_error<ArgumentError>("dropout_layer", [] { nn::Dropout bad(nn::Place{}, 1.5); });
}

TEST_CASE("init schemes have their spread") {
  manual_seed(5);
  Tensor w = empty({200, 50});
  nn::init::xavier_uniform_(w);
  const double xavier = std::sqrt(6.0 / 250);
  CHECK(range_of(w).high <= xavier);
  CHECK(range_of(w).high > 0.99 * xavier);
  nn::init::xavier_normal_(w, 2.0);
  CHECK(range_of(w).deviation == doctest::Approx(2 * std::sqrt(2.0 / 250)).epsilon(0.03));
  nn::init::kaiming_uniform_(w, {.nonlinearity = nn::init::Nonlinearity::relu});
  CHECK(range_of(w).high <= std::sqrt(6.0 / 50));
  CHECK(range_of(w).high > 0.99 * std::sqrt(6.0 / 50));
  nn::init::kaiming_normal_(w, {.mode = nn::init::FanMode::fan_out});
  CHECK(range_of(w).deviation == doctest::Approx(std::sqrt(2.0 / 200)).epsilon(0.03));
  nn::init::uniform_(w, 2, 3);
  CHECK(range_of(w).low >= 2);
  CHECK(range_of(w).high <= 3);
  CHECK(range_of(w).mean == doctest::Approx(2.5).epsilon(0.01));
  nn::init::normal_(w, 1, 0.5);
  CHECK(range_of(w).mean == doctest::Approx(1).epsilon(0.03));
  CHECK(range_of(w).deviation == doctest::Approx(0.5).epsilon(0.03));
  nn::init::trunc_normal_(w, 0, 1, -1, 1);
  CHECK(range_of(w).low >= -1);
  CHECK(range_of(w).high <= 1);
  // The deviation of a normal distribution cut at one sigma.
  CHECK(range_of(w).deviation == doctest::Approx(0.5396).epsilon(0.02));
  nn::init::constant_(w, 7);
  CHECK(range_of(w).low == 7);
  nn::init::ones_(w);
  CHECK(range_of(w).high == 1);
  nn::init::zeros_(w);
  CHECK(range_of(w).high == 0);
  CHECK(nn::init::calculate_gain(nn::init::Nonlinearity::tanh) == doctest::Approx(5.0 / 3));
  CHECK(nn::init::calculate_fans(empty({6, 2, 3, 3})).in == 18);
  check_error<ArgumentError>("init_fans", [] { nn::init::xavier_uniform_(empty({3})); });
  check_error<ArgumentError>("init_integers",
                             [] { nn::init::normal_(empty({3}, {.dtype = DType::i64})); });
  check_error<ArgumentError>("init_uniform_bounds", [] { nn::init::uniform_(empty({3}), 1, 0); });
  check_error<ArgumentError>("init_normal_std", [] { nn::init::normal_(empty({3}), 0, -1); });
  check_error<ArgumentError>("init_trunc_normal_std",
                             [] { nn::init::trunc_normal_(empty({3}), 0, 0); });
  check_error<ArgumentError>("init_trunc_normal_bounds",
                             [] { nn::init::trunc_normal_(empty({3}), 0, 1, 2, 1); });
}

TEST_CASE("metrics add up over batches") {
  nn::metrics::Accuracy accuracy;
  check_error<ArgumentError>("accuracy_empty", [&] { accuracy.compute(); });
  accuracy.add_batch(tensor({{0.1, 0.9}, {0.8, 0.2}, {0.3, 0.7}}), tensor({1, 1, 1}));
  accuracy.add_batch(tensor({0, 1}), tensor({0, 1}));
  CHECK(accuracy.compute() == doctest::Approx(0.8));
  CHECK(accuracy.count() == 5);
  check_error<ArgumentError>("accuracy_shapes", [&] {
    accuracy.add_batch(tensor({0, 1}), tensor({0, 1, 1}));
  });
  check_error<ArgumentError>("accuracy_dtype", [&] {
    accuracy.add_batch(tensor({0, 1}), ones({2}));
  });
  accuracy.reset();
  CHECK(accuracy.count() == 0);

  nn::metrics::Mean mean_loss;
  check_error<ArgumentError>("mean_empty", [&] { mean_loss.compute(); });
  mean_loss.add_batch(2.0, 3);
  mean_loss.add_batch(tensor({6.0, 8.0}));
  CHECK(mean_loss.compute() == doctest::Approx(4.0));
  check_error<ArgumentError>("mean_count", [&] { mean_loss.add_batch(1.0, -1); });
  mean_loss.reset();
  CHECK(mean_loss.count() == 0);
}
