// Random numbers: the generator against its authors' answers, reproducibility, distributions.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include <weft/core/base/error.hpp>
#include <weft/core/base/parallel.hpp>
#include <weft/core/kernel/philox.hpp>
#include <weft/core/ops.hpp>
#include <weft/core/random.hpp>
#include <weft/tests/support/errors.hpp>

using namespace weft;
using weft::test::check_error;

namespace {

void check_words(const kernel::PhiloxWords& words, uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
  CHECK(words.word[0] == a);
  CHECK(words.word[1] == b);
  CHECK(words.word[2] == c);
  CHECK(words.word[3] == d);
}

struct Moments {
  double mean, variance;
};

Moments moments(const Tensor& x) {
  const std::vector<double> values = x.to_vector<double>();
  double sum = 0, squares = 0;
  for (const double v : values) {
    sum += v;
    squares += v * v;
  }
  const auto n = static_cast<double>(values.size());
  return {sum / n, squares / n - sum / n * (sum / n)};
}

}  // namespace

TEST_CASE("Philox 4x32-10 gives the known answers of its authors") {
  check_words(kernel::philox({{0, 0, 0, 0}}, {0, 0}), 0x6627e8d5, 0xe169c58d, 0xbc57ac4c,
              0x9b00dbd8);
  constexpr uint32_t kOnes = 0xffffffff;
  check_words(kernel::philox({{kOnes, kOnes, kOnes, kOnes}}, {kOnes, kOnes}), 0x408f276d,
              0x41c83b0e, 0xa20bc7c6, 0x6d5451fd);
  check_words(
      kernel::philox({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, {0xa4093822, 0x299f31d0}),
      0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1);
}

TEST_CASE("the same seed gives the same numbers for any number of threads, another seed others") {
  const int threads = num_threads();
  const auto draw = [](int count, uint64_t seed) {
    set_num_threads(count);
    manual_seed(seed);
    std::vector<double> all = randn({70001}).to_vector<double>();
    for (const Tensor& more :
         {rand({3001}), randn({501}, {.dtype = DType::f64}), randint(-5, 9, {999}).to(DType::f64),
          randperm(333).to(DType::f64), rand({77}, {.dtype = DType::bf16})}) {
      const std::vector<double> values = more.to_vector<double>();
      all.insert(all.end(), values.begin(), values.end());
    }
    return all;
  };
  const std::vector<double> one = draw(1, 7), three = draw(3, 7), other = draw(3, 8);
  set_num_threads(threads);
  CHECK(one == three);
  CHECK(one != other);
}

TEST_CASE("an element's number depends on its place alone, not on the tensor's size") {
  const auto draw = [](int64_t n, DType dtype) {
    manual_seed(3);
    return randn({n}, {.dtype = dtype}).to_vector<double>();
  };
  for (const DType dtype : {DType::f32, DType::f64}) {
    const std::vector<double> few = draw(601, dtype), many = draw(5000, dtype);
    CHECK(std::equal(few.begin(), few.end(), many.begin()));
  }
}

TEST_CASE("random_state can be put back; reserve_random advances by whole counters") {
  manual_seed(11);
  const PhiloxState start = reserve_random(5);
  CHECK(start.seed == 11);
  CHECK(start.offset == 0);
  CHECK(random_state().offset == 2);
  const PhiloxState kept = random_state();
  const std::vector<float> first = rand({9}).to_vector<float>();
  CHECK(rand({9}).to_vector<float>() != first);
  set_random_state(kept);
  CHECK(rand({9}).to_vector<float>() == first);
}

TEST_CASE("rand is uniform in [0, 1) in every floating-point dtype") {
  manual_seed(1);
  for (const DType dtype : {DType::f64, DType::f32, DType::f16, DType::bf16}) {
    CAPTURE(name_of(dtype));
    const Tensor x = rand({100000}, {.dtype = dtype});
    const std::vector<double> values = x.to_vector<double>();
    const auto [low, high] = std::minmax_element(values.begin(), values.end());
    CHECK(*low >= 0);
    CHECK(*low < 0.01);
    CHECK(*high < 1);
    CHECK(*high > 0.99);
    const Moments m = moments(x);
    CHECK(std::abs(m.mean - 0.5) < 0.005);
    CHECK(std::abs(m.variance - 1.0 / 12) < 0.001);
  }
}

TEST_CASE("randn is normal: moments and tails") {
  manual_seed(2);
  for (const DType dtype : {DType::f64, DType::f32}) {
    const Tensor x = randn({200000}, {.dtype = dtype});
    const Moments m = moments(x);
    CHECK(std::abs(m.mean) < 0.01);
    CHECK(std::abs(m.variance - 1) < 0.02);
    int64_t inside = 0, far = 0;
    for (const double v : x.to_vector<double>()) {
      inside += std::abs(v) < 1;
      far += std::abs(v) > 3;
    }
    CHECK(std::abs(static_cast<double>(inside) / 200000 - 0.6827) < 0.005);
    CHECK(std::abs(static_cast<double>(far) / 200000 - 0.0027) < 0.0006);
  }
}

TEST_CASE("the first normal numbers of seed 0 are these, on every machine") {
  manual_seed(0);
  const std::vector<double> x = randn({4}, {.dtype = DType::f64}).to_vector<double>();
  // Box and Muller's formulas by hand, from the words of the known answer.
  const double u = (static_cast<double>(0xe169c58d6627e8d5u >> 11) + 1) * 0x1p-53;
  const double v = static_cast<double>(0x9b00dbd8bc57ac4cu >> 11) * 0x1p-53;
  const double radius = std::sqrt(-2 * std::log(u)), turn = 6.283185307179586 * v;
  CHECK(x[0] == doctest::Approx(radius * std::cos(turn)).epsilon(1e-14));
  CHECK(x[1] == doctest::Approx(radius * std::sin(turn)).epsilon(1e-14));
}

TEST_CASE("randint and randperm give whole numbers of their ranges") {
  manual_seed(5);
  std::vector<int64_t> counts(6);
  for (const int64_t v : randint(-2, 4, {60000}).to_vector<int64_t>()) {
    REQUIRE(v >= -2);
    REQUIRE(v < 4);
    ++counts[static_cast<size_t>(v + 2)];
  }
  for (const int64_t count : counts) CHECK(std::abs(static_cast<double>(count) - 10000) < 500);
  std::vector<int64_t> order = randperm(1000).to_vector<int64_t>();
  CHECK_FALSE(std::is_sorted(order.begin(), order.end()));
  std::sort(order.begin(), order.end());
  for (int64_t i = 0; i < 1000; ++i) CHECK(order[static_cast<size_t>(i)] == i);
  CHECK(randperm(0).numel() == 0);
}

TEST_CASE("dropout keeps 1 - p of the elements, scaled, and draws the same mask in backward") {
  manual_seed(9);
  Tensor x = ones({100, 1001}, {.requires_grad = true});
  const Tensor y = dropout(x, 0.25);
  double kept = 0;
  for (const float v : y.to_vector<float>()) {
    if (v != 0) CHECK(v == doctest::Approx(1 / 0.75));
    kept += v != 0;
  }
  CHECK(std::abs(kept / 100100 - 0.75) < 0.01);
  y.backward(ones_like(y));
  CHECK(x.grad().to_vector<float>() == y.to_vector<float>());
  // The mask belongs to places, not to memory: a transposed input sees the same one.
  manual_seed(9);
  const Tensor transposed = dropout(ones({1001, 100}).t(), 0.25);
  CHECK(transposed.to_vector<float>() == y.to_vector<float>());
  CHECK(dropout(x, 0.5, false).is_same(x));
  CHECK(dropout(x, 0.0).is_same(x));
  for (const float v : dropout(x, 1.0).to_vector<float>()) CHECK(v == 0);
}

TEST_CASE("random numbers of impossible kinds are refused") {
  check_error<ArgumentError>("rand_dtype", [] { rand({2}, {.dtype = DType::i64}); });
  check_error<ArgumentError>("randn_dtype", [] { randn({2}, {.dtype = DType::boolean}); });
  check_error<ArgumentError>("randint_empty_range", [] { randint(3, 3, {2}); });
  check_error<ArgumentError>("randperm_negative", [] { randperm(-1); });
  check_error<ArgumentError>("dropout_probability", [] { dropout(ones({2}), 1.5); });
}
