// Matrix products: values against plain loops, layouts, batches, empty sizes, errors.
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

// [.., m, k] x [.., k, n] in double, by the definition.
std::vector<double> plain_product(const Tensor& a, const Tensor& b, const Shape& shape) {
  const Tensor left = a.dim() == 1 ? a.unsqueeze(0) : a;
  const Tensor right = b.dim() == 1 ? b.unsqueeze(1) : b;
  const int64_t m = left.size(-2), k = left.size(-1), n = right.size(-1);
  Shape batch = shape;
  if (a.dim() > 1) batch.erase(batch.rank() - (b.dim() > 1 ? 2 : 1));
  if (b.dim() > 1) batch.erase(batch.rank() - 1);
  Shape left_shape = batch, right_shape = batch;
  left_shape.push_back(m), left_shape.push_back(k);
  right_shape.push_back(k), right_shape.push_back(n);
  const auto x = left.expand(left_shape).to(DType::f64).to_vector<double>();
  const auto y = right.expand(right_shape).to(DType::f64).to_vector<double>();
  std::vector<double> result(static_cast<size_t>(shape.numel()), 0.0);
  for (int64_t i = 0; i < shape.numel(); ++i) {
    const int64_t item = i / (m * n), row = i / n % m, column = i % n;
    for (int64_t p = 0; p < k; ++p)
      result[static_cast<size_t>(i)] += x[static_cast<size_t>((item * m + row) * k + p)] *
                                        y[static_cast<size_t>((item * k + p) * n + column)];
  }
  return result;
}

double relative_error(const Tensor& got, const std::vector<double>& expected) {
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
  switch (dtype) {
    case DType::f64: return 1e-13;
    case DType::f32: return 2e-6;
    case DType::f16: return 1e-3;
    case DType::bf16: return 8e-3;
    default: return 0.0;
  }
}

void check_product(const Tensor& a, const Tensor& b, const Shape& shape) {
  const Tensor c = matmul(a, b);
  CAPTURE(to_string(a.shape()));
  CAPTURE(to_string(b.shape()));
  CAPTURE(name_of(a.dtype()));
  REQUIRE(c.shape() == shape);
  CHECK(c.dtype() == a.dtype());
  CHECK(relative_error(c, plain_product(a, b, shape)) <= bound(a.dtype()));
}

Tensor values(const Shape& shape, DType dtype) {
  if (is_floating(dtype)) return randn(shape).to(dtype);
  return randint(-5, 6, shape).to(dtype);
}

}  // namespace

TEST_CASE("matmul multiplies in all ranks") {
  manual_seed(1);
  for (const DType dtype : {DType::f32, DType::f64, DType::f16, DType::bf16, DType::i64, DType::i32,
                            DType::i16, DType::i8}) {
    check_product(values({4}, dtype), values({4}, dtype), {});
    check_product(values({3, 4}, dtype), values({4}, dtype), {3});
    check_product(values({4}, dtype), values({4, 5}, dtype), {5});
    check_product(values({3, 4}, dtype), values({4, 5}, dtype), {3, 5});
    check_product(values({2, 3, 4}, dtype), values({2, 4, 5}, dtype), {2, 3, 5});
    check_product(values({2, 3, 4}, dtype), values({4, 5}, dtype), {2, 3, 5});
    check_product(values({2, 3, 4}, dtype), values({4}, dtype), {2, 3});
    check_product(values({4}, dtype), values({2, 4, 5}, dtype), {2, 5});
    check_product(values({3, 4}, dtype), values({2, 4, 5}, dtype), {2, 3, 5});
    check_product(values({3, 1, 3, 4}, dtype), values({2, 4, 5}, dtype), {3, 2, 3, 5});
    // i8 would wrap around here.
    if (dtype != DType::i8)
      check_product(values({70, 33}, dtype), values({33, 150}, dtype), {70, 150});
  }
}

TEST_CASE("matmul takes strided, transposed, expanded and sliced operands") {
  manual_seed(2);
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::i32}) {
    const Tensor a = values({6, 8}, dtype), b = values({8, 10}, dtype);
    check_product(a.t().contiguous().t(), b, {6, 10});
    check_product(a, b.t().contiguous().t(), {6, 10});
    check_product(a.t(), values({6, 3}, dtype), {8, 3});
    check_product(a.slice(1, 0, 8, 2), b.slice(0, 0, 4), {6, 10});
    check_product(a.slice(0, 1, 6, 2), b.slice(1, 0, 10, 3), {3, 4});
    check_product(values({1, 8}, dtype).expand({6, 8}), b, {6, 10});
    check_product(values({6, 1}, dtype).expand({6, 8}), b, {6, 10});
    // Heads of attention: [b, t, h, d] seen as [b, h, t, d].
    const Tensor q = values({2, 5, 3, 4}, dtype).permute({0, 2, 1, 3});
    const Tensor k = values({2, 5, 3, 4}, dtype).permute({0, 2, 3, 1});
    check_product(q, k, {2, 3, 5, 5});
    check_product(q, values({1, 3, 4, 2}, dtype), {2, 3, 5, 2});
  }
}

TEST_CASE("matmul gives zeros for an empty inner size, and nothing for empty outer ones") {
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::i64}) {
    const TensorOptions options{.dtype = dtype};
    const Tensor c = matmul(empty({2, 0}, options), empty({0, 3}, options));
    CHECK(c.to(DType::f64).to_vector<double>() == std::vector<double>(6, 0.0));
    CHECK(matmul(empty({0, 4}, options), ones({4, 3}, options)).shape() == Shape({0, 3}));
    CHECK(matmul(empty({0, 2, 4}, options), ones({4, 3}, options)).shape() == Shape({0, 2, 3}));
    CHECK(matmul(empty({0}, options), empty({0}, options)).item<double>() == 0.0);
  }
  const Tensor y = linear(empty({2, 0}), empty({3, 0}), tensor({1.f, 2.f, 3.f}));
  CHECK(y.to_vector<float>() == std::vector<float>{1, 2, 3, 1, 2, 3});
}

TEST_CASE("matmul gives the same for one thread and several") {
  manual_seed(3);
  const int threads = num_threads();
  const Tensor a = randn({257, 300}), b = randn({300, 1031}), w = randn({400, 300});
  const auto wide = plain_product(a, b, {257, 1031});
  const auto tall = plain_product(a, w.t(), {257, 400});
  for (const int count : {1, 2, 5}) {
    set_num_threads(count);
    CHECK(relative_error(matmul(a, b), wide) <= 2e-6);
    CHECK(relative_error(linear(a, w), tall) <= 2e-6);
    CHECK(relative_error(matmul(a.to(DType::bf16), b.to(DType::bf16)), wide) <= 2e-2);
  }
  set_num_threads(threads);
}

TEST_CASE("products are equal to the bit for any number of threads where that is asked for") {
  manual_seed(5);
  const int threads = num_threads();
  const bool deterministic = is_deterministic();
  set_deterministic(true);
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    CAPTURE(name_of(dtype));
    const Tensor a = randn({130, 300}).to(dtype), b = randn({300, 700}).to(dtype);
    const Tensor w = randn({90, 300}).to(dtype);
    set_num_threads(1);
    const auto wide = matmul(a, b).to(DType::f64).to_vector<double>();
    const auto tall = linear(a, w).to(DType::f64).to_vector<double>();
    set_num_threads(3);
    CHECK(matmul(a, b).to(DType::f64).to_vector<double>() == wide);
    CHECK(linear(a, w).to(DType::f64).to_vector<double>() == tall);
  }
  set_num_threads(threads);
  set_deterministic(deterministic);
}

TEST_CASE("linear adds the bias and keeps leading dims") {
  manual_seed(4);
  for (const DType dtype : {DType::f32, DType::f64, DType::f16, DType::bf16}) {
    const Tensor weight = values({5, 4}, dtype), bias = values({5}, dtype);
    for (const Shape& leading : {Shape{}, Shape{3}, Shape{2, 3}, Shape{2, 1, 3}, Shape{0}}) {
      Shape shape = leading;
      shape.push_back(4);
      const Tensor x = values(shape, dtype);
      const Tensor y = linear(x, weight, bias);
      Shape expected = leading;
      expected.push_back(5);
      REQUIRE(y.shape() == expected);
      auto sums = plain_product(x, weight.t(), expected);
      const auto added = bias.to(DType::f64).to_vector<double>();
      for (size_t i = 0; i < sums.size(); ++i) sums[i] += added[i % 5];
      if (!sums.empty()) CHECK(relative_error(y, sums) <= bound(dtype));
    }
    // A strided bias and a transposed input.
    const Tensor x = values({4, 6}, dtype).t();
    const Tensor strided = values({10}, dtype).slice(0, 0, 10, 2);
    auto sums = plain_product(x, weight.t(), {6, 5});
    const auto added = strided.to(DType::f64).to_vector<double>();
    for (size_t i = 0; i < sums.size(); ++i) sums[i] += added[i % 5];
    CHECK(relative_error(linear(x, weight, strided), sums) <= bound(dtype));
  }
}

TEST_CASE("outer and addmm") {
  CHECK(outer(tensor({1.f, 2.f}), tensor({3.f, 4.f, 5.f})).to_vector<float>() ==
        std::vector<float>{3, 4, 5, 6, 8, 10});
  const Tensor a = tensor({{1.f, 2.f}, {3.f, 4.f}}), b = tensor({{1.f, 0.f}, {1.f, 1.f}});
  const Tensor c = tensor({10.f, 20.f});
  CHECK(addmm(c, a, b).to_vector<float>() == std::vector<float>{13, 22, 17, 24});
  CHECK(addmm(c, a, b, 0.5, 2.0).to_vector<float>() == std::vector<float>{11, 14, 19, 18});
  CHECK(addmm(full({2}, NAN), a, b, 0.0).to_vector<float>() == std::vector<float>{3, 2, 7, 4});
}

TEST_CASE("products refuse what does not fit") {
  const Tensor a = zeros({2, 3}), b = zeros({4, 5});
  check_error<ArgumentError>("matmul_inner_sizes", [&] { matmul(a, b); });
  check_error<ArgumentError>("matmul_vectors", [&] { matmul(zeros({3}), zeros({4})); });
  check_error<ArgumentError>("matmul_number", [&] { matmul(a, scalar_tensor(1.0, {})); });
  check_error<ArgumentError>("matmul_dtypes", [&] {
    matmul(a, zeros({3, 2}, {.dtype = DType::f64}));
  });
  check_error<ArgumentError>("matmul_bool", [&] {
    matmul(zeros({2, 2}, {.dtype = DType::boolean}), zeros({2, 2}, {.dtype = DType::boolean}));
  });
  check_error<ArgumentError>("matmul_batch", [&] { matmul(zeros({2, 3, 4}), zeros({3, 4, 5})); });
  check_error<ArgumentError>("linear_sizes", [&] { linear(a, b); });
  check_error<ArgumentError>("linear_weight", [&] { linear(a, zeros({3})); });
  check_error<ArgumentError>("linear_bias", [&] { linear(a, zeros({4, 3}), zeros({3})); });
  check_error<ArgumentError>("linear_dtypes", [&] {
    linear(a, zeros({4, 3}, {.dtype = DType::bf16}));
  });
  check_error<ArgumentError>("linear_bool", [&] {
    linear(zeros({2, 2}, {.dtype = DType::boolean}), zeros({2, 2}, {.dtype = DType::boolean}));
  });
  check_error<ArgumentError>("outer_rank", [&] { outer(a, b); });
  check_error<ArgumentError>("addmm_rank", [&] { addmm(a, zeros({3}), b); });
  check_error<ArgumentError>("addmm_broadcast", [&] { addmm(zeros({7}), a, zeros({3, 2}), 0.5); });
}
