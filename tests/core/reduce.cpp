// Reductions: values against plain loops, layouts, dtypes, thread counts, gradients, errors.
#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <limits>
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

/// `fold` over what each output of a reduction over `dims` (keepdim) sees, in double.
Values plain_reduction(const Tensor& x, const std::vector<int>& dims,
                       const std::function<double(const Values&)>& fold) {
  Shape kept = x.shape();
  for (const int dim : dims) kept[dim] = 1;
  std::vector<Values> groups(static_cast<size_t>(kept.numel()));
  const Values all = values_of(x);
  for (int64_t i = 0; i < x.numel(); ++i) {
    int64_t rest = i, at = 0, scale = 1;
    for (int k = x.dim() - 1; k >= 0; --k) {
      const int64_t coordinate = rest % x.shape()[k];
      rest /= x.shape()[k];
      at += (kept[k] == 1 ? 0 : coordinate) * scale;
      scale *= kept[k];
    }
    groups[static_cast<size_t>(at)].push_back(all[static_cast<size_t>(i)]);
  }
  Values result;
  for (const Values& group : groups) result.push_back(fold(group));
  return result;
}

void check_close(const Tensor& got, const Values& expected, double bound) {
  const Values values = values_of(got);
  REQUIRE(values.size() == expected.size());
  double largest = 1e-30;
  for (const double v : expected)
    if (std::isfinite(v)) largest = std::max(largest, std::fabs(v));
  for (size_t i = 0; i < values.size(); ++i) {
    CAPTURE(i);
    if (std::isfinite(expected[i]))
      CHECK(std::fabs(values[i] - expected[i]) <= bound * largest);
    else
      CHECK((std::isnan(expected[i]) ? std::isnan(values[i]) : values[i] == expected[i]));
  }
}

double bound_of(DType dtype) {
  switch (dtype) {
    case DType::f64: return 1e-13;
    case DType::f32: return 2e-6;
    case DType::f16: return 1e-3;
    case DType::bf16: return 8e-3;
    default: return 0;
  }
}

double plain_sum(const Values& v) {
  double sum = 0;
  for (const double x : v) sum += x;
  return sum;
}
double plain_max(const Values& v) {
  double most = -INFINITY;
  for (const double x : v) most = std::max(most, x);
  return most;
}
double plain_norm(const Values& v) {
  double sum = 0;
  for (const double x : v) sum += x * x;
  return std::sqrt(sum);
}

DimList list(const std::vector<int>& dims) {
  DimList result;
  for (const int dim : dims) result.push_back(dim);
  return result;
}

void check_reductions(const Tensor& x) {
  for (const std::vector<int>& dims :
       {std::vector<int>{0}, {1}, {2}, {0, 1}, {0, 2}, {1, 2}, {0, 1, 2}}) {
    CAPTURE(to_string(x.shape()));
    CAPTURE(to_string(x.strides()));
    CAPTURE(name_of(x.dtype()));
    CAPTURE(to_string(list(dims)));
    const double bound = bound_of(x.dtype());
    const ReduceOptions kept{.dim = list(dims), .keepdim = true};
    check_close(sum(x, kept), plain_reduction(x, dims, plain_sum), bound * 4);
    check_close(amax(x, kept), plain_reduction(x, dims, plain_max), 0);
    if (!is_floating(x.dtype())) continue;
    check_close(norm(x, 2.0, kept), plain_reduction(x, dims, plain_norm), bound);
    check_close(
        mean(x, kept),
        plain_reduction(
            x, dims, [](const Values& v) { return plain_sum(v) / static_cast<double>(v.size()); }),
        bound * 4);
  }
}

}  // namespace

TEST_CASE("reductions over any dims of any layout and dtype") {
  manual_seed(5);
  for (const DType dtype :
       {DType::f32, DType::f64, DType::f16, DType::bf16, DType::i64, DType::i32, DType::u8}) {
    const auto make = [&](const Shape& shape) {
      return is_floating(dtype) ? randn(shape).to(dtype) : randint(0, 9, shape).to(dtype);
    };
    check_reductions(make({3, 7, 5}));
    check_reductions(make({2, 19, 70}));
    check_reductions(make({4, 6, 33}).transpose(0, 2));
    check_reductions(make({4, 6, 33}).permute({1, 0, 2}));
    check_reductions(make({6, 9, 40}).slice(1, 1, 8, 3).slice(2, 1, 40, 2));
    check_reductions(make({3, 1, 5}).expand({3, 4, 5}));
  }
}

TEST_CASE("sums of many elements keep their precision and do not depend on the threads") {
  manual_seed(6);
  const Tensor long_row = rand({300000}), tall = rand({20000, 37}), bias = rand({4096, 1030});
  const int threads = num_threads();
  set_num_threads(1);
  const Tensor a = sum(long_row), b = sum(tall, {.dim = 0}), c = sum(bias, {.dim = 0}),
               d = sum(bias, {.dim = 1});
  set_num_threads(4);
  CHECK(a.to_vector<float>() == sum(long_row).to_vector<float>());
  CHECK(b.to_vector<float>() == sum(tall, {.dim = 0}).to_vector<float>());
  CHECK(c.to_vector<float>() == sum(bias, {.dim = 0}).to_vector<float>());
  CHECK(d.to_vector<float>() == sum(bias, {.dim = 1}).to_vector<float>());
  set_num_threads(threads);
  check_close(a, {plain_sum(values_of(long_row))}, 1e-6);
  check_close(b, plain_reduction(tall, {0}, plain_sum), 1e-6);
  check_close(c, plain_reduction(bias, {0}, plain_sum), 1e-6);
}

TEST_CASE("whole numbers and truth values add up in i64") {
  const Tensor bytes = full({300}, 200).to(DType::u8);
  CHECK(sum(bytes).dtype() == DType::i64);
  CHECK(sum(bytes).item<int64_t>() == 60000);
  CHECK(sum(ne(tensor({1, 0, 1}), 0)).item<int64_t>() == 2);
  CHECK(prod(tensor({2, 3, 4})).item<int64_t>() == 24);
  CHECK(all(tensor({1, 0, 3})).item<bool>() == false);
  CHECK(any(tensor({0, 0, 3})).dtype() == DType::boolean);
  const Tensor truth = gt(tensor({{1.f, -1.f}, {2.f, 3.f}}), 0);
  CHECK(values_of(all(truth, {.dim = 1})) == Values{0, 1});
  CHECK(values_of(any(truth.transpose(0, 1), {.dim = 0})) == Values{1, 1});
}

TEST_CASE("reductions of nothing") {
  const Tensor none = zeros({0, 3});
  CHECK(sum(none).item<float>() == 0.f);
  CHECK(prod(none).item<float>() == 1.f);
  CHECK(std::isnan(mean(none).item<float>()));
  CHECK(sum(none, {.dim = 1}).shape() == Shape{0});
  CHECK(sum(none, {.dim = 0}).to_vector<float>() == std::vector<float>{0, 0, 0});
  CHECK(all(none).item<bool>());
  CHECK_FALSE(any(none).item<bool>());
  CHECK(amax(none, {.dim = 1}).shape() == Shape{0});
  CHECK(sum(tensor(3.f)).item<float>() == 3.f);
  CHECK(amax(tensor(3.f), {.dim = 0}).item<float>() == 3.f);
  check_error<ArgumentError>("amax_of_nothing", [&] { amax(none, {.dim = 0}); });
  check_error<ArgumentError>("max_of_nothing", [&] { max(none, 0); });
}

TEST_CASE("NaN wins in extrema") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> row(40, 1.f);
  row[33] = nan;
  row[35] = 7.f;
  CHECK(std::isnan(amax(tensor(row)).item<float>()));
  CHECK(std::isnan(amin(tensor(row)).item<float>()));
  CHECK(argmax(tensor(row)).item<int64_t>() == 33);
  CHECK(std::isnan(max(tensor(row).reshape({40, 1}), 0).first.item<float>()));
  CHECK(argmin(tensor(row).reshape({40, 1}), 0).item<int64_t>() == 33);
}

TEST_CASE("max and min along a dim say where") {
  const Tensor x = tensor({{3.f, 9.f, 9.f}, {4.f, 2.f, 2.f}});
  const auto [most, at] = max(x, 1);
  CHECK(most.to_vector<float>() == std::vector<float>{9, 4});
  CHECK(at.to_vector<int64_t>() == std::vector<int64_t>{1, 0});
  const auto [least, place] = min(x, 0, true);
  CHECK(least.shape() == Shape{1, 3});
  CHECK(place.to_vector<int64_t>() == std::vector<int64_t>{0, 1, 1});
  CHECK(argmax(x).item<int64_t>() == 1);
  CHECK(argmax(x, {}, true).shape() == Shape{1, 1});
  CHECK(argmin(x, -1).to_vector<int64_t>() == std::vector<int64_t>{0, 1});
  CHECK(max(tensor({5, 8, 1}), 0).second.item<int64_t>() == 1);
  CHECK(max(x).item<float>() == 9.f);
  CHECK(min(x).item<float>() == 2.f);
}

TEST_CASE("var, std, norms and logsumexp") {
  const Tensor x = tensor({{1.f, 2.f, 4.f}, {-1.f, 0.f, 7.f}});
  check_close(var(x, {.dim = 1}), {7.0 / 3, 19}, 1e-6);
  check_close(var(x, {.dim = 1, .correction = 0}), {14.0 / 9, 38.0 / 3}, 1e-6);
  check_close(weft::std(x, {.dim = 1}), {std::sqrt(7.0 / 3), std::sqrt(19.0)}, 1e-6);
  CHECK(std::isnan(var(tensor({1.f})).item<float>()));
  check_close(norm(x, 1.0, {.dim = 1}), {7, 8}, 1e-6);
  check_close(norm(x, 0.0, {.dim = 1}), {3, 2}, 0);
  check_close(norm(x, INFINITY, {.dim = 1}), {4, 7}, 0);
  check_close(norm(x, -INFINITY, {.dim = 1}), {1, 0}, 0);
  check_close(norm(x, 3.0, {.dim = 1}), {std::cbrt(73.0), std::cbrt(344.0)}, 1e-5);
  check_close(
      logsumexp(x, {.dim = 1}),
      {std::log(std::exp(1) + std::exp(2) + std::exp(4)), std::log(std::exp(-1) + 1 + std::exp(7))},
      1e-6);
  CHECK(logsumexp(full({3}, -INFINITY), {.dim = 0}).item<float>() == -INFINITY);
  CHECK(logsumexp(full({3}, 1000.0), {.dim = 0, .keepdim = true}).item<float>() ==
        doctest::Approx(1000 + std::log(3.0)));
}

TEST_CASE("running folds and order") {
  const Tensor x = tensor({{3.f, 1.f, 2.f}, {-1.f, 5.f, 5.f}});
  CHECK(cumsum(x, 1).to_vector<float>() == std::vector<float>{3, 4, 6, -1, 4, 9});
  CHECK(cumsum(x, 0).to_vector<float>() == std::vector<float>{3, 1, 2, 2, 6, 7});
  CHECK(cumsum(x.t(), 0).to_vector<float>() == std::vector<float>{3, -1, 4, 4, 6, 9});
  CHECK(cumprod(x, 1).to_vector<float>() == std::vector<float>{3, 3, 6, -1, -5, -25});
  CHECK(cumsum(ne(tensor({1, 1}), 0), 0).to_vector<int64_t>() == std::vector<int64_t>{1, 2});
  const auto [up, where_up] = sort(x, 1);
  CHECK(up.to_vector<float>() == std::vector<float>{1, 2, 3, -1, 5, 5});
  CHECK(where_up.to_vector<int64_t>() == std::vector<int64_t>{1, 2, 0, 0, 1, 2});
  CHECK(argsort(x, 1, true).to_vector<int64_t>() == std::vector<int64_t>{0, 2, 1, 1, 2, 0});
  const auto [best, at] = topk(x, 2, 1);
  CHECK(best.to_vector<float>() == std::vector<float>{3, 2, 5, 5});
  CHECK(at.to_vector<int64_t>() == std::vector<int64_t>{0, 2, 1, 2});
  check_error<ArgumentError>("topk_too_many", [&] { topk(x, 4, 1); });
  manual_seed(7);
  const Tensor many = sort(randn({999}), 0).first;
  const auto values = many.to_vector<float>();
  for (size_t i = 1; i < values.size(); ++i) CHECK(values[i - 1] <= values[i]);
}

TEST_CASE("sum_to undoes broadcasting") {
  const Tensor x = ones({2, 3, 4});
  CHECK(sum_to(x, {3, 1}).to_vector<float>() == std::vector<float>{8, 8, 8});
  CHECK(sum_to(x, {}).item<float>() == 24.f);
  CHECK(sum_to(x, {2, 3, 4}).is_same(x));
  check_error<ArgumentError>("sum_to_other_shape", [&] { sum_to(x, {2, 4}); });
  check_error<ArgumentError>("sum_to_more_dims", [&] { sum_to(x, {1, 2, 3, 4}); });
}

TEST_CASE("derivatives of reductions") {
  manual_seed(8);
  const TensorOptions f64{.dtype = DType::f64, .requires_grad = true};
  const Tensor x = rand({3, 4, 2}, f64);
  using Fn = std::function<Tensor(const Tensor&)>;
  const std::vector<std::pair<std::string, Fn>> cases = {
      {"sum",
       [](const Tensor& t) {
         return sum(t, {.dim = {0, 2}});
       }},
      {"mean", [](const Tensor& t) { return mean(t, {.dim = 1, .keepdim = true}); }},
      {"amax",
       [](const Tensor& t) {
         return amax(t, {.dim = {0, 1}});
       }},
      {"amin", [](const Tensor& t) { return amin(t); }},
      {"prod", [](const Tensor& t) { return prod(t, {.dim = 1}); }},
      {"var",
       [](const Tensor& t) {
         return var(t, {.dim = {0, 1}});
       }},
      {"std", [](const Tensor& t) { return weft::std(t, {.dim = 1}); }},
      {"norm2", [](const Tensor& t) { return norm(t, 2.0, {.dim = 0}); }},
      {"norm1", [](const Tensor& t) { return norm(t, 1.0, {.dim = 0}); }},
      {"norm3", [](const Tensor& t) { return norm(t, 3.0, {.dim = 0}); }},
      {"norm inf", [](const Tensor& t) { return norm(t, INFINITY, {.dim = 0}); }},
      {"logsumexp",
       [](const Tensor& t) {
         return logsumexp(t, {.dim = {1, 2}});
       }},
      {"max", [](const Tensor& t) { return max(t, 1).first; }},
      {"sort", [](const Tensor& t) { return sort(t, 1).first * sort(t, 1).first; }},
      {"topk", [](const Tensor& t) { return topk(t, 2, 1, false).first; }},
      {"cumsum", [](const Tensor& t) { return cumsum(t * t, 1); }},
      {"cumprod", [](const Tensor& t) { return cumprod(t, 1); }},
  };
  for (const auto& [name, fn] : cases) {
    const auto& shown = name;  // clang 14 captures no structured binding
    CAPTURE(shown);
    const auto run = [&fn = fn](const std::vector<Tensor>& in) { return fn(in[0]); };
    CHECK(gradcheck(run, {x}) == "");
  }
}

TEST_CASE("derivatives of products with zeros, and of equal extrema") {
  const auto gradient = [](const std::vector<double>& values, auto&& fn) {
    Tensor x = tensor(values).to(DType::f64);
    x = x.detach();
    x.requires_grad_();
    return grad({sum(fn(x))}, {x})[0].template to_vector<double>();
  };
  const auto product = [](const Tensor& x) { return prod(x); };
  CHECK(gradient({2, 0, 3}, product) == Values{0, 6, 0});
  CHECK(gradient({2, 0, 0}, product) == Values{0, 0, 0});
  const auto running = [](const Tensor& x) { return cumprod(x, 0); };
  CHECK(gradient({2, 0, 3}, running) == Values{1, 8, 0});
  CHECK(gradient({2, 0, 3, 0, 5}, running) == Values{1, 8, 0, 0, 0});
  CHECK(gradient({1, 4, 4, 4, 4}, [](const Tensor& x) { return amax(x); }) ==
        Values{0, 0.25, 0.25, 0.25, 0.25});
  CHECK(gradient({0, 0}, [](const Tensor& x) { return norm(x); }) == Values{0, 0});
}

TEST_CASE("reductions refuse what they cannot do") {
  const Tensor x = zeros({2, 3});
  check_error<ArgumentError>("sum_dim_range", [&] { sum(x, {.dim = 2}); });
  check_error<ArgumentError>("sum_dim_twice", [&] { sum(x, {.dim = {1, -1}}); });
  check_error<ArgumentError>("mean_of_integers", [&] { mean(tensor({1, 2})); });
}
