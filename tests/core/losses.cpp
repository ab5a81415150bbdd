// softmax and losses: values by their definitions, layouts, dtypes, gradients, errors.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
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

using Values = std::vector<double>;

Values values_of(const Tensor& x) { return x.to(DType::f64).to_vector<double>(); }

double worst_difference(const Tensor& got, const Tensor& expected) {
  REQUIRE(got.shape() == expected.shape());
  const Values a = values_of(got), b = values_of(expected);
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::fabs(a[i] - b[i]));
  return worst;
}

double bound_of(DType dtype) {
  return dtype == DType::f64   ? 1e-14
         : dtype == DType::f32 ? 1e-6
         : dtype == DType::f16 ? 2e-3
                               : 2e-2;
}

/// By the definition, in small f64 ops.
Tensor plain_softmax(const Tensor& x, int64_t dim) {
  const Tensor e = exp(x.to(DType::f64));
  return e / sum(e, {.dim = dim, .keepdim = true});
}

/// Cross entropy of rows by its definition.
Values plain_losses(const Tensor& logits, const std::vector<int64_t>& targets, double smoothing,
                    const Values& weight, int64_t ignored) {
  const Values x = values_of(logits);
  const size_t classes = static_cast<size_t>(logits.size(1));
  Values losses;
  for (size_t r = 0; r < targets.size(); ++r) {
    double sum = 0, all = 0;
    for (size_t c = 0; c < classes; ++c) sum += std::exp(x[r * classes + c]);
    for (size_t c = 0; c < classes; ++c) all += weight[c] * (std::log(sum) - x[r * classes + c]);
    const size_t t = static_cast<size_t>(std::max<int64_t>(targets[r], 0));
    const double hit = weight[t] * (std::log(sum) - x[r * classes + t]);
    const double loss = (1 - smoothing) * hit + smoothing / static_cast<double>(classes) * all;
    losses.push_back(targets[r] == ignored ? 0 : loss);
  }
  return losses;
}

double total(const Values& values) {
  double sum = 0;
  for (const double v : values) sum += v;
  return sum;
}

}  // namespace

TEST_CASE("softmax and log_softmax along any dim of any layout and dtype") {
  manual_seed(11);
  for (const DType dtype : {DType::f32, DType::f64, DType::f16, DType::bf16}) {
    const Tensor a = randn({3, 21, 70}).to(dtype);
    for (const Tensor& x : {a, a.transpose(0, 2), a.slice(2, 0, 70, 3), a.slice(2, 0, 5)})
      for (const int64_t dim : {0, 1, -1}) {
        CAPTURE(name_of(dtype));
        CAPTURE(to_string(x.shape()));
        CAPTURE(dim);
        const Tensor expected = plain_softmax(x, dim);
        CHECK(softmax(x, dim).dtype() == dtype);
        CHECK(worst_difference(softmax(x, dim), expected) < bound_of(dtype));
        CHECK(worst_difference(log_softmax(x, dim), log(expected)) < 10 * bound_of(dtype));
      }
  }
}

TEST_CASE("softmax at the edges") {
  const float infinity = std::numeric_limits<float>::infinity();
  CHECK(softmax(tensor({-infinity, 0.f, 0.f}), 0).to_vector<float>() ==
        std::vector<float>{0, 0.5f, 0.5f});
  CHECK(std::isnan(softmax(full({3}, -infinity), 0).to_vector<float>()[1]));
  CHECK(softmax(tensor({1e4f, 0.f}), 0).to_vector<float>() == std::vector<float>{1, 0});
  CHECK(log_softmax(tensor({1e4f, 0.f}), 0).to_vector<float>() == std::vector<float>{0, -1e4f});
  CHECK(softmax(zeros({0, 3}), 1).shape() == Shape{0, 3});
  CHECK(softmax(zeros({3, 0}), 1).shape() == Shape{3, 0});
  CHECK(softmax(tensor(2.f), 0).item<float>() == 1.f);
  check_error<ArgumentError>("softmax_dim", [] { softmax(zeros({2, 3}), 2); });
  check_error<ArgumentError>("softmax_of_integers", [] { softmax(tensor({1, 2}), 0); });
}

TEST_CASE("cross entropy by its definition") {
  manual_seed(12);
  const std::vector<int64_t> classes = {4, 0, 36, 2, -100, 36, 7, 1};
  const Tensor targets = tensor(classes), weight = rand({37}) + 0.5;
  for (const DType dtype : {DType::f32, DType::f64, DType::f16, DType::bf16}) {
    const Tensor logits = randn({8, 37}).to(dtype);
    for (const double smoothing : {0.0, 0.1})
      for (const bool weighted : {false, true}) {
        CAPTURE(name_of(dtype));
        CAPTURE(smoothing);
        CAPTURE(weighted);
        const Tensor w = weight.to(dtype);
        const Values plain_weight = weighted ? values_of(w) : Values(37, 1.0);
        CrossEntropyOptions options{.label_smoothing = smoothing};
        if (weighted) options.weight = w;
        const Values losses = plain_losses(logits, classes, smoothing, plain_weight, -100);
        double divisor = 0;
        for (const int64_t t : classes)
          if (t >= 0) divisor += plain_weight[static_cast<size_t>(t)];
        const double bound = 20 * bound_of(dtype);
        CHECK(cross_entropy(logits, targets, options).item<double>() ==
              doctest::Approx(total(losses) / divisor).epsilon(bound));
        options.reduction = Reduction::sum;
        CHECK(cross_entropy(logits, targets, options).item<double>() ==
              doctest::Approx(total(losses)).epsilon(bound));
        options.reduction = Reduction::none;
        const Values each = values_of(cross_entropy(logits, targets, options));
        for (size_t i = 0; i < each.size(); ++i)
          CHECK(each[i] == doctest::Approx(losses[i]).epsilon(bound));
      }
  }
}

TEST_CASE("cross entropy of maps, of one row and of probabilities") {
  manual_seed(13);
  const Tensor maps = randn({2, 5, 3, 4}), targets = randint(0, 5, {2, 3, 4});
  const Tensor rows = maps.permute({0, 2, 3, 1}).reshape({24, 5});
  CHECK(cross_entropy(maps, targets).item<float>() ==
        doctest::Approx(cross_entropy(rows, targets.flatten()).item<float>()));
  CHECK(cross_entropy(maps, targets, {.reduction = Reduction::none}).shape() == Shape{2, 3, 4});
  CHECK(cross_entropy(rows.select(0, 1), tensor(2)).item<float>() ==
        doctest::Approx(cross_entropy(rows.slice(0, 1, 2), tensor({2})).item<float>()));
  const Tensor hot = one_hot(targets.flatten(), 5).to(DType::f32);
  for (const double smoothing : {0.0, 0.2})
    CHECK(
        cross_entropy(rows, hot, {.label_smoothing = smoothing}).item<float>() ==
        doctest::Approx(
            cross_entropy(rows, targets.flatten(), {.label_smoothing = smoothing}).item<float>()));
  CHECK(std::isnan(cross_entropy(zeros({0, 3}), zeros({0}, {.dtype = DType::i64})).item<float>()));
  CHECK(nll_loss(log_softmax(maps, 1), targets).item<float>() ==
        doctest::Approx(cross_entropy(maps, targets).item<float>()));
  const Tensor w = tensor({1.f, 2.f, 3.f, 4.f, 5.f});
  CHECK(
      nll_loss(log_softmax(rows, 1), targets.flatten(), {.weight = w, .ignore_index = 2})
          .item<float>() ==
      doctest::Approx(
          cross_entropy(rows, targets.flatten(), {.weight = w, .ignore_index = 2}).item<float>()));
}

TEST_CASE("cross entropy is the same for any number of threads") {
  manual_seed(14);
  const Tensor logits = randn({300, 501}), targets = randint(0, 501, {300});
  const auto run = [&](int threads) {
    const int before = num_threads();
    set_num_threads(threads);
    const Tensor x = logits.detach().requires_grad_();
    const Tensor loss = cross_entropy(x, targets);
    loss.backward();
    set_num_threads(before);
    std::vector<float> values = x.grad().to_vector<float>();
    values.push_back(loss.item<float>());
    return values;
  };
  CHECK(run(1) == run(4));
}

TEST_CASE("cross entropy refuses what does not fit") {
  const Tensor logits = zeros({2, 3});
  check_error<ArgumentError>("cross_entropy_class", [&] { cross_entropy(logits, tensor({0, 3})); });
  check_error<ArgumentError>("cross_entropy_negative", [&] {
    cross_entropy(logits, tensor({-1, 0}));
  });
  check_error<ArgumentError>("cross_entropy_shape", [&] { cross_entropy(logits, tensor({1})); });
  check_error<ArgumentError>("cross_entropy_dtype", [&] {
    cross_entropy(logits, tensor({1.f, 0.f}));
  });
  check_error<ArgumentError>("cross_entropy_weight", [&] {
    cross_entropy(logits, tensor({1, 0}), {.weight = ones({2})});
  });
  check_error<ArgumentError>("cross_entropy_weight_dtype", [&] {
    cross_entropy(logits, tensor({1, 0}), {.weight = ones({3}, {.dtype = DType::f64})});
  });
  check_error<ArgumentError>("cross_entropy_smoothing", [&] {
    cross_entropy(logits, tensor({1, 0}), {.label_smoothing = 1.5});
  });
  check_error<ArgumentError>("cross_entropy_batchmean", [&] {
    cross_entropy(logits, tensor({1, 0}), {.reduction = Reduction::batchmean});
  });
  check_error<ArgumentError>("cross_entropy_0d", [] { cross_entropy(tensor(1.f), tensor(0)); });
  check_error<ArgumentError>("nll_loss_shape", [&] { nll_loss(logits, tensor({1})); });
  check_error<ArgumentError>("nll_loss_dtype", [&] { nll_loss(logits, tensor({1.f, 2.f})); });
  check_error<ArgumentError>("nll_loss_class", [&] { nll_loss(logits, tensor({1, 5})); });
  check_error<ArgumentError>("nll_loss_0d", [] { nll_loss(tensor(1.f), tensor(0)); });
}

TEST_CASE("losses between two tensors") {
  const Tensor a = tensor({0.5f, -1.f, 3.f}), b = tensor({0.f, 1.f, 3.5f});
  CHECK(mse_loss(a, b).item<float>() == doctest::Approx(1.5f));
  CHECK(l1_loss(a, b, {.reduction = Reduction::sum}).item<float>() == doctest::Approx(3.0f));
  CHECK(smooth_l1_loss(a, b).item<float>() == doctest::Approx((0.125 + 1.5 + 0.125) / 3));
  CHECK(smooth_l1_loss(a, b, {.delta = 0}).item<float>() == doctest::Approx(1.0));
  CHECK(huber_loss(a, b, {.delta = 0.5}).item<float>() ==
        doctest::Approx((0.125 + 0.875 + 0.125) / 3));
  const Tensor p = tensor({0.2f, 0.9f}), t = tensor({0.f, 1.f});
  const double expected = -(std::log(0.8) + std::log(0.9)) / 2;
  CHECK(binary_cross_entropy(p, t).item<double>() == doctest::Approx(expected));
  CHECK(binary_cross_entropy_with_logits(log(p / (1 - p)), t).item<double>() ==
        doctest::Approx(expected));
  CHECK(binary_cross_entropy(t, 1 - t).item<float>() == 100.f);
  const Tensor q = tensor({{0.5f, 0.5f}, {1.f, 0.f}});
  const Tensor input = log(full({2, 2}, 0.25));
  CHECK(kl_div(input, q, {.reduction = Reduction::batchmean}).item<double>() ==
        doctest::Approx((std::log(2.0) + std::log(4.0)) / 2));
  CHECK(kl_div(input, q).item<double>() == doctest::Approx((std::log(2.0) + std::log(4.0)) / 4));
  CHECK(cosine_similarity(tensor({{1.f, 2.f}}), tensor({{2.f, 4.f}})).item<float>() ==
        doctest::Approx(1.0));
  CHECK(cosine_similarity(zeros({1, 2}), ones({1, 2})).item<float>() == 0.f);
  CHECK(normalize(tensor({{3.f, 4.f}})).to_vector<float>()[1] == doctest::Approx(0.8));
  check_error<ArgumentError>("mse_loss_batchmean",
                             [&] { mse_loss(a, b, {.reduction = Reduction::batchmean}); });
  check_error<ArgumentError>("huber_loss_delta", [&] { huber_loss(a, b, {.delta = 0}); });
  check_error<ArgumentError>("smooth_l1_beta", [&] { smooth_l1_loss(a, b, {.delta = -1}); });
  check_error<ArgumentError>(
      "kl_div_0d", [] { kl_div(tensor(1.f), tensor(1.f), {.reduction = Reduction::batchmean}); });
}

TEST_CASE("derivatives of softmax and losses") {
  manual_seed(15);
  const TensorOptions f64{.dtype = DType::f64, .requires_grad = true};
  const Tensor x = randn({4, 5}, f64), y = rand({4, 5}, f64);
  const Tensor targets = tensor({1, 4, -100, 0}), weight = (rand({5}) + 0.5).to(DType::f64);
  using Fn = std::function<Tensor(const std::vector<Tensor>&)>;
  const auto ce = [&](CrossEntropyOptions options) -> Fn {
    return [=](const std::vector<Tensor>& in) { return cross_entropy(in[0], targets, options); };
  };
  const std::vector<std::pair<std::string, Fn>> cases = {
      {"softmax 1", [](const auto& in) { return softmax(in[0], 1); }},
      {"softmax 0", [](const auto& in) { return softmax(in[0], 0); }},
      {"log_softmax 1", [](const auto& in) { return log_softmax(in[0], 1); }},
      {"log_softmax 0", [](const auto& in) { return log_softmax(in[0], 0); }},
      {"cross_entropy", ce({})},
      {"cross_entropy none", ce({.reduction = Reduction::none})},
      {"cross_entropy smooth", ce({.reduction = Reduction::sum, .label_smoothing = 0.2})},
      {"cross_entropy weighted", ce({.weight = weight, .label_smoothing = 0.2})},
      {"cross_entropy soft", [](const auto& in) { return cross_entropy(in[0], in[1]); }},
      {"nll_loss", [&](const auto& in) { return nll_loss(in[0], targets); }},
      {"mse_loss", [](const auto& in) { return mse_loss(in[0], in[1]); }},
      {"huber_loss", [](const auto& in) { return huber_loss(in[0], in[1], {.delta = 0.7}); }},
      {"bce logits", [](const auto& in) { return binary_cross_entropy_with_logits(in[0], in[1]); }},
      {"kl_div", [](const auto& in) { return kl_div(in[0], in[1]); }},
      {"cosine_similarity", [](const auto& in) { return cosine_similarity(in[0], in[1]); }},
      {"normalize", [](const auto& in) { return normalize(in[0]); }},
  };
  for (const auto& [name, fn] : cases) {
    const auto& shown = name;  // clang 14 captures no structured binding
    CAPTURE(shown);
    CHECK(gradcheck(fn, {x, y}, {.second_order = true}) == "");
  }
}
