// Joining, indexing and placing: values, layouts, empty sizes, gradients, errors.
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

using Floats = std::vector<float>;

const Tensor& sample() {
  static const Tensor x = tensor({{1.f, 2.f, 3.f}, {4.f, 5.f, 6.f}});
  return x;
}

}  // namespace

TEST_CASE("cat and stack") {
  const Tensor& x = sample();
  CHECK(cat({x, x.slice(1, 0, 1)}, 1).to_vector<float>() == Floats{1, 2, 3, 1, 4, 5, 6, 4});
  CHECK(cat({x, x}).shape() == Shape{4, 3});
  CHECK(cat({x.t(), x.t()}, -1).to_vector<float>() == Floats{1, 4, 1, 4, 2, 5, 2, 5, 3, 6, 3, 6});
  CHECK(cat({zeros({0, 3}), x}).shape() == Shape{2, 3});
  CHECK(cat({x, tensor({{7, 8, 9}})}).dtype() == DType::f32);
  CHECK(cat({tensor({1, 2}), ne(tensor({1}), 0)}).to_vector<int64_t>() ==
        std::vector<int64_t>{1, 2, 1});
  CHECK(stack({x, x}, 1).shape() == Shape{2, 2, 3});
  CHECK(stack({tensor(1.f), tensor(2.f)}).to_vector<float>() == Floats{1, 2});
  check_error<ArgumentError>("cat_shapes", [&] { cat({x, zeros({2, 4})}, 0); });
  check_error<ArgumentError>("cat_nothing", [] { cat({}); });
  check_error<ArgumentError>("cat_0d", [] { cat({tensor(1.f)}); });
  check_error<ArgumentError>("stack_shapes", [&] { stack({x, x.t()}); });
  check_error<ArgumentError>("stack_nothing", [] { stack({}); });
}

TEST_CASE("repeat and repeat_interleave") {
  const Tensor& x = sample();
  CHECK(repeat(x, {1, 2}).to_vector<float>() == Floats{1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6});
  CHECK(repeat(x, {2, 1, 1}).shape() == Shape{2, 2, 3});
  CHECK(repeat(x, {0, 1}).shape() == Shape{0, 3});
  CHECK_FALSE(repeat(x, {1, 1}).is_same(x));
  CHECK(repeat_interleave(x, 2, 1).to_vector<float>() ==
        Floats{1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6});
  CHECK(repeat_interleave(x, 0, 0).shape() == Shape{0, 3});
  const Tensor deep = x.reshape({1, 1, 1, 1, 1, 1, 2, 3});
  CHECK(repeat_interleave(deep, 2, 6).to_vector<float>() ==
        Floats{1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6});
  check_error<ArgumentError>("repeat_too_few", [&] { repeat(x, {2}); });
  check_error<ArgumentError>("repeat_negative", [&] { repeat(x, {1, -2}); });
  check_error<ArgumentError>("repeat_interleave_negative", [&] { repeat_interleave(x, -1, 0); });
  check_error<ArgumentError>("repeat_interleave_0d", [] { repeat_interleave(tensor(1.f), 2, 0); });
}

TEST_CASE("index_select, gather and their inverses") {
  const Tensor& x = sample();
  const Tensor pick = tensor({2, 0, 2});
  CHECK(index_select(x, 1, pick).to_vector<float>() == Floats{3, 1, 3, 6, 4, 6});
  CHECK(index_select(x.t(), 0, pick).to_vector<float>() == Floats{3, 6, 1, 4, 3, 6});
  CHECK(index_select(x, 1, pick.to(DType::i32)).shape() == Shape{2, 3});
  CHECK(index_select(x, 0, zeros({0}, {.dtype = DType::i64})).shape() == Shape{0, 3});
  const Tensor at = tensor({{2, 2}, {0, 1}});
  CHECK(gather(x, 1, at).to_vector<float>() == Floats{3, 3, 4, 5});
  CHECK(gather(x, 0, tensor({{1, 0, 1}})).to_vector<float>() == Floats{4, 2, 6});
  CHECK(gather(x.t(), 0, at).to_vector<float>() == Floats{3, 6, 1, 5});
  const Tensor source = tensor({{10.f, 20.f}, {30.f, 40.f}});
  CHECK(scatter(x, 1, at, source).to_vector<float>() == Floats{1, 2, 20, 30, 40, 6});
  CHECK(scatter_add(x, 1, at, source).to_vector<float>() == Floats{1, 2, 33, 34, 45, 6});
  CHECK(scatter_add(tensor({1, 2}), 0, tensor({1, 1}), tensor({5, 6})).to_vector<int64_t>() ==
        std::vector<int64_t>{1, 13});
  CHECK(index_add(x, 1, pick, ones({2, 3})).to_vector<float>() == Floats{2, 2, 5, 5, 5, 8});
  CHECK(index_add(x.t(), 0, tensor({0}), ones({1, 2})).to_vector<float>() ==
        Floats{2, 5, 2, 5, 3, 6});

  check_error<ArgumentError>("index_select_range", [&] { index_select(x, 1, tensor({0, 3})); });
  check_error<ArgumentError>("index_select_negative", [&] { index_select(x, 0, tensor({-1})); });
  check_error<ArgumentError>("index_select_dtype", [&] { index_select(x, 1, tensor({0.f})); });
  check_error<ArgumentError>("index_select_rank", [&] { index_select(x, 1, at); });
  check_error<ArgumentError>("gather_range", [&] { gather(x, 0, tensor({{0, 2, 0}})); });
  check_error<ArgumentError>("gather_shape", [&] { gather(x, 0, tensor({{0, 1, 0, 1}})); });
  check_error<ArgumentError>("scatter_source", [&] { scatter(x, 1, at, ones({1, 2})); });
  check_error<ArgumentError>("scatter_dtype", [&] { scatter(x, 1, at, at); });
  check_error<ArgumentError>("scatter_range", [&] { scatter(x, 1, tensor({{3}}), ones({1, 1})); });
  check_error<ArgumentError>("scatter_add_range", [&] {
    scatter_add(x, 1, tensor({{-4}}), ones({1, 1}));
  });
  check_error<ArgumentError>("index_add_source", [&] { index_add(x, 1, pick, ones({2, 2})); });
  check_error<ArgumentError>("index_add_range", [&] {
    index_add(x, 0, tensor({2}), ones({1, 3}));
  });
}

TEST_CASE("embedding looks rows up and adds gradients by row") {
  const Tensor table = sample();
  CHECK(embedding(tensor({{1, 0}, {1, 1}}), table).shape() == Shape{2, 2, 3});
  CHECK(embedding(tensor({1, 0}), table).to_vector<float>() == Floats{4, 5, 6, 1, 2, 3});
  check_error<ArgumentError>("embedding_range", [&] { embedding(tensor({0, 5}), table); });
  check_error<ArgumentError>("embedding_weight", [] { embedding(tensor({0}), tensor({1.f})); });
  check_error<ArgumentError>("embedding_op_padding", [&] { embedding(tensor({0}), table, 2); });

  manual_seed(9);
  const Tensor ids = randint(0, 50, {700}), upstream = randn({700, 67});
  const auto gradient = [&](int threads, DType dtype) {
    const int before = num_threads();
    set_num_threads(threads);
    const Tensor weight = zeros({60, 67}, {.dtype = dtype, .requires_grad = true});
    embedding(ids, weight, 3).backward(upstream.to(dtype));
    set_num_threads(before);
    return weight.grad().to(DType::f64).to_vector<double>();
  };
  const auto got = gradient(1, DType::f32);
  CHECK(got == gradient(4, DType::f32));
  std::vector<double> expected(60 * 67, 0.0);
  const auto rows = ids.to_vector<int64_t>();
  const auto values = upstream.to_vector<float>();
  for (size_t i = 0; i < rows.size(); ++i)
    for (size_t j = 0; j < 67 && rows[i] != 3; ++j)
      expected[static_cast<size_t>(rows[i]) * 67 + j] += static_cast<double>(values[i * 67 + j]);
  double worst = 0;
  for (size_t i = 0; i < got.size(); ++i) worst = std::max(worst, std::fabs(got[i] - expected[i]));
  CHECK(worst < 1e-4);
  const auto coarse = gradient(1, DType::bf16);
  for (size_t i = 0; i < got.size(); ++i)
    CHECK(std::fabs(coarse[i] - expected[i]) <= 0.06 * (1 + std::fabs(expected[i])));
}

TEST_CASE("one_hot, triangles, flip, roll") {
  const Tensor& x = sample();
  CHECK(one_hot(tensor({2, 0}), 3).to_vector<int64_t>() == std::vector<int64_t>{0, 0, 1, 1, 0, 0});
  check_error<ArgumentError>("one_hot_range", [] { one_hot(tensor({0, 3}), 3); });
  check_error<ArgumentError>("one_hot_classes", [] { one_hot(tensor({0}), 0); });
  CHECK(tril(x).to_vector<float>() == Floats{1, 0, 0, 4, 5, 0});
  CHECK(triu(x, 1).to_vector<float>() == Floats{0, 2, 3, 0, 0, 6});
  CHECK(tril(x.t(), -1).to_vector<float>() == Floats{0, 0, 2, 0, 3, 6});
  check_error<ArgumentError>("tril_vector", [] { tril(tensor({1.f})); });
  CHECK(flip(x, {0, 1}).to_vector<float>() == Floats{6, 5, 4, 3, 2, 1});
  CHECK(flip(x.t(), {0}).to_vector<float>() == Floats{3, 6, 2, 5, 1, 4});
  check_error<ArgumentError>("flip_twice", [&] { flip(x, {1, -1}); });
  CHECK(roll(x, 1, 1).to_vector<float>() == Floats{3, 1, 2, 6, 4, 5});
  CHECK(roll(x, -4, 1).to_vector<float>() == Floats{2, 3, 1, 5, 6, 4});
  check_error<ArgumentError>("roll_0d", [] { roll(tensor(1.f), 1, 0); });
}

TEST_CASE("pad adds and cuts") {
  const Tensor& x = sample();
  CHECK(pad(x, {1, 0}, 9.0).to_vector<float>() == Floats{9, 1, 2, 3, 9, 4, 5, 6});
  CHECK(pad(x, {0, 0, 0, 1}).to_vector<float>() == Floats{1, 2, 3, 4, 5, 6, 0, 0, 0});
  CHECK(pad(x, {-1, 1}).to_vector<float>() == Floats{2, 3, 0, 5, 6, 0});
  CHECK(pad(x, {2, 1}, PadMode::reflect).to_vector<float>() ==
        Floats{3, 2, 1, 2, 3, 2, 6, 5, 4, 5, 6, 5});
  CHECK(pad(x, {0, 2, 1, 0}, PadMode::replicate).to_vector<float>() ==
        Floats{1, 2, 3, 3, 3, 1, 2, 3, 3, 3, 4, 5, 6, 6, 6});
  CHECK(pad(zeros({0, 2}), {1, 1, 2, 0}).shape() == Shape{2, 4});
  check_error<ArgumentError>("pad_odd", [&] { pad(x, {1}); });
  check_error<ArgumentError>("pad_cut_too_much", [&] { pad(x, {-2, -2}); });
  check_error<ArgumentError>("pad_reflect_too_far", [&] { pad(x, {3, 0}, PadMode::reflect); });
}

TEST_CASE("derivatives of joining and indexing") {
  manual_seed(10);
  const TensorOptions f64{.dtype = DType::f64, .requires_grad = true};
  const Tensor x = randn({3, 4}, f64), y = randn({3, 2}, f64);
  const Tensor at = tensor({{1, 1}, {3, 0}, {2, 1}}), pick = tensor({3, 0, 3});
  using Fn = std::function<Tensor(const std::vector<Tensor>&)>;
  const std::vector<std::pair<std::string, Fn>> cases = {
      {"cat",
       [](const auto& in) {
         return square(cat({in[0], in[1], in[0]}, 1));
       }},
      {"stack",
       [](const auto& in) {
         return square(stack({in[0], in[0] * 2.0}, 1));
       }},
      {"repeat",
       [](const auto& in) {
         return square(repeat(in[0], {2, 1, 2}));
       }},
      {"interleave", [](const auto& in) { return square(repeat_interleave(in[0], 3, 0)); }},
      {"index_select", [&](const auto& in) { return square(index_select(in[0], 1, pick)); }},
      {"gather", [&](const auto& in) { return square(gather(in[0], 1, at)); }},
      {"scatter_add", [&](const auto& in) { return square(scatter_add(in[0], 1, at, in[1])); }},
      {"index_add",
       [&](const auto& in) {
         return square(index_add(in[1], 1, tensor({1, 1, 0, 1}), in[0]));
       }},
      {"embedding",
       [&](const auto& in) {
         return square(embedding(tensor({{1, 0}, {2, 1}}), in[0]));
       }},
      {"tril", [](const auto& in) { return square(tril(in[0], 1)); }},
      {"triu", [](const auto& in) { return square(triu(in[0])); }},
      {"flip", [](const auto& in) { return square(flip(in[0], {1})) * in[0]; }},
      {"roll", [](const auto& in) { return roll(in[0], 1, 0) * in[0]; }},
      {"pad",
       [](const auto& in) {
         return square(pad(in[0], {1, -1, 0, 2}));
       }},
      {"reflect",
       [](const auto& in) {
         return square(pad(in[0], {1, 2}, PadMode::reflect));
       }},
      {"replicate",
       [](const auto& in) {
         return square(pad(in[0], {1, 2}, PadMode::replicate));
       }},
      {"slice", [](const auto& in) { return square(in[0].slice(1, 1, 4, 2)); }},
      {"select", [](const auto& in) { return square(in[0].select(1, 2)); }},
  };
  for (const auto& [name, fn] : cases) {
    const auto& shown = name;  // clang 14 captures no structured binding
    CAPTURE(shown);
    CHECK(gradcheck(fn, {x, y}, {.second_order = true}) == "");
  }
  const Tensor distinct = tensor({{1, 0}, {3, 0}, {2, 1}});
  const auto scattered = [&](const std::vector<Tensor>& in) {
    return square(scatter(in[0], 1, distinct, in[1]));
  };
  CHECK(gradcheck(scattered, {x, y}) == "");
}
