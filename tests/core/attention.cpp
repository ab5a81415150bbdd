// Attention: the fused op against the composition in f64, its gradients, masks, heads, errors.
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

// One row of the result by the definition; `scores` are masked already.
std::vector<double> plain_row(std::vector<double> scores, const std::vector<double>& v,
                              int64_t width) {
  const double most = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (double& s : scores) sum += s = std::isinf(most) ? 0.0 : std::exp(s - most);
  std::vector<double> row(static_cast<size_t>(width), 0.0);
  for (size_t j = 0; j < scores.size(); ++j)
    for (size_t d = 0; d < row.size(); ++d)
      row[d] += sum == 0 ? 0.0 : scores[j] / sum * v[j * row.size() + d];
  return row;
}

double difference(const Tensor& got, const Tensor& expected) {
  REQUIRE(got.shape() == expected.shape());
  const auto a = got.to(DType::f64).to_vector<double>();
  const auto b = expected.to(DType::f64).to_vector<double>();
  double worst = 0, largest = 1e-30;
  for (size_t i = 0; i < a.size(); ++i) {
    worst = std::max(worst, std::fabs(a[i] - b[i]));
    largest = std::max(largest, std::fabs(b[i]));
  }
  return worst / largest;
}

// Result and gradients for a fixed cotangent.
std::vector<Tensor> pass(const Tensor& q, const Tensor& k, const Tensor& v,
                         const AttentionOptions& options) {
  const Tensor a = q.detach().requires_grad_(), b = k.detach().requires_grad_(),
               c = v.detach().requires_grad_();
  const Tensor y = scaled_dot_product_attention(a, b, c, options);
  // Eighths, which every dtype holds exactly.
  const Tensor waves = cos(arange(0, y.numel(), 1, {.dtype = DType::f64})) * 8.0;
  const Tensor g = (round(waves) / 8.0).reshape(y.shape());
  auto grads = grad({y}, {a, b, c}, {.grad_outputs = {g.to(y.dtype())}});
  grads.insert(grads.begin(), y.detach());
  return grads;
}

void check_all(const Tensor& q, const Tensor& k, const Tensor& v,
               const AttentionOptions& options = {}) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    CAPTURE(name_of(dtype));
    AttentionOptions own = options, wide = options;
    if (own.attn_mask.defined() && own.attn_mask.dtype() != DType::boolean) {
      own.attn_mask = own.attn_mask.to(dtype);
      wide.attn_mask = own.attn_mask.to(DType::f64);
    }
    const Tensor a = q.to(dtype), b = k.to(dtype), c = v.to(dtype);
    const auto got = pass(a, b, c, own);
    const auto expected = pass(a.to(DType::f64), b.to(DType::f64), c.to(DType::f64), wide);
    const double bound = dtype == DType::f32 ? 5e-6 : dtype == DType::f16 ? 3e-3 : 2e-2;
    for (size_t i = 0; i < 4; ++i) {
      CAPTURE(i);
      CHECK(got[i].dtype() == dtype);
      CHECK(difference(got[i], expected[i]) <= bound);
    }
  }
}

}  // namespace

TEST_CASE("attention follows its definition") {
  manual_seed(31);
  const Tensor q = randn({1, 2, 5, 4}), k = randn({1, 2, 7, 4}), v = randn({1, 2, 7, 3});
  for (const bool causal : {false, true}) {
    const Tensor y = scaled_dot_product_attention(q, k, v, {.is_causal = causal, .scale = 0.3});
    REQUIRE(y.shape() == Shape({1, 2, 5, 3}));
    for (int64_t h = 0; h < 2; ++h)
      for (int64_t i = 0; i < 5; ++i) {
        std::vector<double> scores(7);
        for (int64_t j = 0; j < 7; ++j)
          scores[static_cast<size_t>(j)] =
              causal && j > i ? -INFINITY
                              : 0.3 * sum(q.select(1, h).select(1, i) * k.select(1, h).select(1, j))
                                          .item<double>();
        const auto row = plain_row(scores, v.select(1, h).to(DType::f64).to_vector<double>(), 3);
        const auto got = y.select(1, h).select(1, i).to_vector<float>();
        for (size_t d = 0; d < 3; ++d) CHECK(got[d] == doctest::Approx(row[d]).epsilon(1e-5));
      }
  }
}

TEST_CASE("fused attention and its gradients agree with the composition") {
  manual_seed(32);
  check_all(randn({2, 3, 9, 8}), randn({2, 3, 9, 8}), randn({2, 3, 9, 8}));
  check_all(randn({2, 3, 9, 8}), randn({2, 3, 9, 8}), randn({2, 3, 9, 8}), {.is_causal = true});
  // Several tiles of rows and columns, ragged ones, another width of values.
  check_all(randn({1, 2, 150, 20}), randn({1, 2, 600, 20}), randn({1, 2, 600, 12}), {.scale = 0.7});
  check_all(randn({1, 1, 333, 16}), randn({1, 1, 333, 16}), randn({1, 1, 333, 16}),
            {.is_causal = true});
  check_all(randn({1, 1, 300, 8}), randn({1, 1, 70, 8}), randn({1, 1, 70, 8}), {.is_causal = true});
  // Fewer and more dims.
  check_all(randn({5, 8}), randn({6, 8}), randn({6, 8}));
  check_all(randn({3, 5, 8}), randn({3, 6, 8}), randn({3, 6, 8}));
  check_all(randn({2, 1, 3, 5, 8}), randn({2, 1, 3, 6, 8}), randn({2, 1, 3, 6, 8}));
}

TEST_CASE("attention with masks, grouped heads and strided inputs") {
  manual_seed(33);
  const Tensor q = randn({2, 4, 5, 8}), k = randn({2, 4, 9, 8}), v = randn({2, 4, 9, 8});
  const Tensor some = gt(rand({2, 1, 5, 9}), 0.4);
  check_all(q, k, v, {.attn_mask = some});
  check_all(q, k, v, {.attn_mask = gt(rand({9}), 0.3)});
  check_all(q, k, v, {.attn_mask = randn({4, 5, 9})});
  check_all(q, k, v, {.attn_mask = randn({5, 1})});
  check_all(randn({2, 6, 7, 8}), randn({2, 2, 7, 8}), randn({2, 2, 7, 8}),
            {.is_causal = true, .enable_gqa = true});
  // Heads as a model has them: [b, t, h, d] seen as [b, h, t, d].
  const auto seen = [](const Tensor& x) { return x.permute({0, 2, 1, 3}); };
  check_all(seen(randn({2, 70, 3, 8})), seen(randn({2, 70, 3, 8})), seen(randn({2, 70, 3, 8})),
            {.is_causal = true});
  check_all(randn({2, 3, 8, 5}).transpose(2, 3), randn({2, 3, 8, 6}).transpose(2, 3),
            randn({2, 3, 8, 6}).transpose(2, 3));
}

TEST_CASE("a row that may attend to nothing gives zeros and no gradient") {
  const Tensor mask = tensor({{true, true}, {false, false}});
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    const Tensor q = ones({1, 2, 4}).to(dtype), v = ones({1, 2, 4}).to(dtype);
    const auto results = pass(q, q, v, {.attn_mask = mask});
    CHECK(results[0].select(1, 0).to(DType::f64).to_vector<double>() ==
          std::vector<double>{1, 1, 1, 1});
    CHECK(results[0].select(1, 1).to(DType::f64).to_vector<double>() ==
          std::vector<double>{0, 0, 0, 0});
    for (const Tensor& t : results)
      for (const double x : t.to(DType::f64).to_vector<double>()) CHECK(std::isfinite(x));
  }
}

TEST_CASE("attention's mask may want a gradient, and dropout keeps the mean") {
  manual_seed(34);
  const TensorOptions options{.dtype = DType::f64};
  const std::vector<Tensor> inputs = {
      randn({1, 2, 3, 4}, options).requires_grad_(), randn({1, 2, 5, 4}, options).requires_grad_(),
      randn({1, 2, 5, 4}, options).requires_grad_(), randn({3, 5}, options).requires_grad_()};
  const auto fn = [](const std::vector<Tensor>& in) {
    return scaled_dot_product_attention(in[0], in[1], in[2], {.attn_mask = in[3]});
  };
  CHECK(gradcheck(fn, inputs, {.second_order = true}) == "");
  const Tensor mask = zeros({3, 5}).requires_grad_();
  sum(scaled_dot_product_attention(randn({3, 4}), randn({5, 4}), randn({5, 4}),
                                   {.attn_mask = mask}))
      .backward();
  CHECK(mask.grad().shape() == Shape({3, 5}));

  const Tensor v = ones({1, 1, 64, 4}), q = randn({1, 1, 200, 4}), k = randn({1, 1, 64, 4});
  const Tensor y = scaled_dot_product_attention(q, k, v, {.dropout_p = 0.5});
  CHECK(mean(y).item<double>() == doctest::Approx(1.0).epsilon(0.05));
  CHECK(amax(y).item<double>() > 1.0);
}

TEST_CASE("attention gives the same bits for any number of threads") {
  manual_seed(35);
  const int threads = num_threads();
  const Tensor q = randn({2, 4, 100, 16}), k = randn({2, 2, 100, 16}), v = randn({2, 2, 100, 16});
  set_num_threads(1);
  const auto one = pass(q, k, v, {.is_causal = true});
  set_num_threads(3);
  const auto three = pass(q, k, v, {.is_causal = true});
  set_num_threads(threads);
  for (size_t i = 0; i < 4; ++i) CHECK(one[i].to_vector<float>() == three[i].to_vector<float>());
}

TEST_CASE("attention over nothing") {
  CHECK(scaled_dot_product_attention(zeros({0, 2, 3, 4}), zeros({0, 2, 5, 4}), zeros({0, 2, 5, 4}))
            .shape() == Shape({0, 2, 3, 4}));
  const Tensor y =
      scaled_dot_product_attention(ones({2, 3, 4}), zeros({2, 0, 4}), zeros({2, 0, 4}));
  CHECK(y.to_vector<float>() == std::vector<float>(24, 0.0f));
}

TEST_CASE("attention refuses what does not fit") {
  const Tensor q = zeros({2, 4, 5, 8}), k = zeros({2, 4, 9, 8});
  const auto run = [&](const Tensor& a, const Tensor& b, const Tensor& c,
                       const AttentionOptions& options = {}) {
    scaled_dot_product_attention(a, b, c, options);
  };
  check_error<ArgumentError>("attention_rank", [&] { run(q, zeros({9, 8}), zeros({9, 8})); });
  check_error<ArgumentError>("attention_dtypes", [&] { run(q, k.to(DType::f64), k); });
  check_error<ArgumentError>("attention_width", [&] { run(q, zeros({2, 4, 9, 7}), k); });
  check_error<ArgumentError>("attention_length", [&] { run(q, k, zeros({2, 4, 8, 8})); });
  check_error<ArgumentError>("attention_heads", [&] {
    run(q, zeros({2, 3, 9, 8}), zeros({2, 3, 9, 8}));
  });
  check_error<ArgumentError>("attention_mask_shape", [&] {
    run(q, k, k, {.attn_mask = zeros({5, 8})});
  });
  check_error<ArgumentError>("attention_mask_dtype", [&] {
    run(q, k, k, {.attn_mask = zeros({5, 9}, {.dtype = DType::f64})});
  });
  check_error<ArgumentError>("attention_mask_and_causal", [&] {
    run(q, k, k, {.attn_mask = zeros({5, 9}), .is_causal = true});
  });
  check_error<ArgumentError>("attention_dropout", [&] { run(q, k, k, {.dropout_p = 1.0}); });
  const Tensor leaf = zeros({1, 3, 4}).requires_grad_();
  check_error<ArgumentError>("attention_second_derivative", [&] {
    grad({sum(scaled_dot_product_attention(leaf, leaf, leaf))}, {leaf}, {.create_graph = true});
  });
}
