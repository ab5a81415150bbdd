// Pointwise ops: the loop around them (strides, broadcasting, dtypes, in place, threads), and the
// rules of single ops.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include <weft/autograd/autograd.hpp>
#include <weft/core/base/error.hpp>
#include <weft/core/base/parallel.hpp>
#include <weft/core/memory.hpp>
#include <weft/core/ops.hpp>
#include <weft/core/random.hpp>
#include <weft/tests/support/errors.hpp>

using namespace weft;
using weft::test::check_error;

namespace {

using Values = std::vector<double>;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

constexpr DType kAllTypes[] = {DType::boolean, DType::u8,  DType::i8,   DType::i16, DType::i32,
                               DType::i64,     DType::f16, DType::bf16, DType::f32, DType::f64};

Values values(const Tensor& x) { return x.to_vector<double>(); }

bool same(const Values& a, const Values& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i)
    if (!(a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i])))) return false;
  return true;
}

Tensor f64(const Values& v) { return tensor(v).to(DType::f64); }

}  // namespace

TEST_CASE("add gives the same for packed, strided, broadcast and permuted operands") {
  manual_seed(1);
  for (const int64_t columns : {1, 3, 17, 700, 1500}) {
    CAPTURE(columns);
    const Tensor a = randn({6, columns}), b = randn({columns, 6}), row = randn({columns}),
                 column = randn({6, 1}), wide = randn({6, 2 * columns});
    const auto expect = [&](const Tensor& sum, const Tensor& x, const Tensor& y) {
      const Values u = values(expand(x, {6, columns}).clone()),
                   v = values(expand(y, {6, columns}).clone()), w = values(sum);
      REQUIRE(w.size() == u.size());
      int64_t right = 0;
      for (size_t i = 0; i < w.size(); ++i)
        right += w[i] == static_cast<double>(static_cast<float>(u[i]) + static_cast<float>(v[i]));
      CHECK(right == static_cast<int64_t>(w.size()));
    };
    expect(a + a, a, a);
    expect(a + b.t(), a, b.t());
    expect(a + row, a, row);
    expect(column + row, column, row);
    expect(wide.slice(1, 0, 2 * columns, 2) + a, wide.slice(1, 0, 2 * columns, 2), a);
    expect(a + wide.slice(1, columns, 2 * columns), a, wide.slice(1, columns, 2 * columns));
    expect(b.t() + b.t(), b.t(), b.t());
  }
}

TEST_CASE("clone packs every view, of every dtype") {
  for (const DType dtype : kAllTypes) {
    CAPTURE(name_of(dtype));
    const Tensor x = arange(0, 120).to(dtype).view({2, 3, 4, 5});
    const Values flat = values(x);
    const Tensor y = x.permute({3, 1, 0, 2}).clone();
    CHECK(y.is_contiguous());
    const Values moved = values(y);
    size_t at = 0;
    bool right = true;
    for (size_t i = 0; i < 5; ++i)
      for (size_t j = 0; j < 3; ++j)
        for (size_t k = 0; k < 2; ++k)
          for (size_t l = 0; l < 4; ++l)
            right &= moved[at++] == flat[((k * 3 + j) * 4 + l) * 5 + i];
    CHECK(right);
    CHECK(same(values(x.transpose(0, 3).contiguous()), values(x.transpose(0, 3))));
  }
}

TEST_CASE("large transposed copies are right at every edge") {
  for (const auto& [rows, columns] :
       {std::pair<int64_t, int64_t>{65, 130}, {64, 64}, {1, 300}, {333, 17}, {20, 3}}) {
    const Tensor x = arange(0, rows * columns).view({rows, columns});
    for (const DType dtype : {DType::f64, DType::f32, DType::bf16, DType::u8}) {
      const Tensor typed = x.to(dtype);
      const Tensor y = typed.t().clone();
      const Values a = values(typed), b = values(y);
      int64_t right = 0;
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < columns; ++j)
          right += a[static_cast<size_t>(i * columns + j)] == b[static_cast<size_t>(j * rows + i)];
      CHECK(right == rows * columns);
    }
  }
}

TEST_CASE("conversion between all dtypes, packed and strided") {
  for (const DType from : kAllTypes) {
    for (const DType to : kAllTypes) {
      CAPTURE(name_of(from));
      CAPTURE(name_of(to));
      const Tensor x = arange(0, 100).to(from), y = x.to(to);
      CHECK(y.dtype() == to);
      const bool truth = from == DType::boolean || to == DType::boolean;
      Values expected(100);
      for (size_t i = 0; i < 100; ++i)
        expected[i] = truth ? static_cast<double>(i != 0) : static_cast<double>(i);
      CHECK(same(values(y), expected));
      CHECK(same(values(x.slice(0, 1, 100, 3).to(to)), values(y.slice(0, 1, 100, 3).clone())));
    }
  }
  CHECK(values(tensor({300, -1, 65536}).to(DType::u8)) == Values{44, 255, 0});
  CHECK(values(tensor({2.9, -2.9, 0.5}).to(DType::i32)) == Values{2, -2, 0});
  CHECK(values(tensor({65504.0, 65520.0, 1e-8, 6.1e-5}).to(DType::f16).to(DType::f32))[1] == kInf);
}

TEST_CASE("results have the promoted dtype; numbers promote across categories alone") {
  for (const DType dtype :
       {DType::u8, DType::i64, DType::f16, DType::bf16, DType::f32, DType::f64}) {
    const Tensor x = ones({3}, {.dtype = dtype});
    CHECK((x + 1).dtype() == dtype);
    CHECK((2 * x).dtype() == dtype);
    CHECK((x * 2.5).dtype() == (is_floating(dtype) ? dtype : DType::f32));
    CHECK((x / 2).dtype() == (is_floating(dtype) ? dtype : DType::f32));
    CHECK(gt(x, 0.5).dtype() == DType::boolean);
  }
  CHECK((ones({2}, {.dtype = DType::boolean}) + 1).dtype() == DType::i64);
  CHECK((ones({2}, {.dtype = DType::f16}) + ones({2}, {.dtype = DType::bf16})).dtype() ==
        DType::f32);
  CHECK(exp(ones({2}, {.dtype = DType::i32})).dtype() == DType::f32);
  // A number loses nothing beside f64.
  CHECK(values(zeros({1}, {.dtype = DType::f64}) + 0.1)[0] == 0.1);
  // 16-bit floats are computed in f32 and rounded once.
  CHECK(values(full({1}, 1024.0, {.dtype = DType::f16}) * 1.5 - 1535.0)[0] == 1.0);
}

TEST_CASE("whole numbers wrap around at their own width") {
  const Tensor bytes = tensor({250, 3}).to(DType::u8);
  CHECK(values(bytes + 10) == Values{4, 13});
  CHECK(values(bytes * bytes) == Values{36, 9});
  CHECK(values(neg(tensor({-128, 5}).to(DType::i8))) == Values{-128, -5});
  const Tensor top = full({1}, std::numeric_limits<int64_t>::max());
  CHECK((top + 1).item<int64_t>() == std::numeric_limits<int64_t>::min());
  CHECK((full({1}, (int64_t{1} << 53) + 1) + 0).item<int64_t>() == (int64_t{1} << 53) + 1);
}

TEST_CASE("zero-size and 0-d tensors go through every kind of op") {
  const Tensor none = empty({0, 3});
  CHECK((none + none).shape() == Shape{0, 3});
  CHECK((none + ones({3})).shape() == Shape{0, 3});
  CHECK(exp(none).numel() == 0);
  CHECK(gt(none, 1).numel() == 0);
  CHECK(none.clone().shape() == Shape{0, 3});
  CHECK(none.to(DType::i8).numel() == 0);
  CHECK(dropout(none, 0.5).numel() == 0);
  CHECK(randn({0}).numel() == 0);
  CHECK(zeros({2, 0}).fill_(3).numel() == 0);
  const Tensor one = scalar_tensor(2.0, {});
  CHECK((one * one).dim() == 0);
  CHECK((one * one).item<float>() == 4);
  CHECK(values(one + ones({2})) == Values{3, 3});
}

TEST_CASE("in place: packed, strided, broadcast, converting, and over itself") {
  Tensor x = arange(0, 12).to(DType::f32).view({3, 4});
  x.add_(ones({4})).mul_(2).sub_(full({3, 1}, 2.0)).div_(2);
  CHECK(same(values(x), values(arange(0, 12).view({3, 4}))));
  Tensor column = x.slice(1, 1, 2);
  column.fill_(-1.0);
  column.add_(3.0);
  CHECK(values(x.select(1, 1)) == Values{2, 2, 2});
  CHECK(values(x.select(1, 2)) == Values{2, 6, 10});
  Tensor square = arange(0, 9).to(DType::f32).view({3, 3});
  square.add_(square.t());
  CHECK(values(square) == Values{0, 4, 8, 4, 8, 12, 8, 12, 16});
  Tensor shifted = arange(0, 6);
  shifted.slice(0, 1, 6).copy_(shifted.slice(0, 0, 5));
  CHECK(values(shifted) == Values{0, 0, 1, 2, 3, 4});
  Tensor half = ones({3}, {.dtype = DType::bf16});
  half.add_(tensor({0.5, 0.25, 2.0}));
  CHECK(half.dtype() == DType::bf16);
  CHECK(values(half) == Values{1.5, 1.25, 3});
  half.copy_(scalar_tensor(7, {.dtype = DType::i64}));
  CHECK(values(half) == Values{7, 7, 7});
  half.add_(ones({3}), -2);
  CHECK(values(half) == Values{5, 5, 5});
  half.zero_();
  CHECK(values(half) == Values{0, 0, 0});
  const uint32_t before = half.version();
  half.mul_(half);
  CHECK(half.version() == before + 1);
}

TEST_CASE("in place: what would lose the kind of number or the shape is refused") {
  Tensor whole = tensor({1, 2, 3});
  check_error<ArgumentError>("in_place_real_into_whole", [&] { whole.mul_(0.5); });
  check_error<ArgumentError>("in_place_div_whole", [&] { whole.div_(2); });
  Tensor truth = ones({3}, {.dtype = DType::boolean});
  check_error<ArgumentError>("in_place_whole_into_bool", [&] { truth.add_(1); });
  check_error<ArgumentError>("in_place_shape", [&] {
    whole.add_(ones({2, 3}, {.dtype = DType::i64}));
  });
  check_error<ArgumentError>("copy_shape", [&] { whole.copy_(ones({2, 2})); });
  CHECK(values(whole) == Values{1, 2, 3});
}

TEST_CASE("in place on a recorded result: copy_ and fill_ cut the history") {
  Tensor x = ones({3}, {.requires_grad = true}), source = full({3}, 2.0);
  source.requires_grad_();
  Tensor y = x * 3;
  y.copy_(source * 5);
  y.backward(ones({3}));
  CHECK(values(source.grad()) == Values{5, 5, 5});
  CHECK_FALSE(x.grad().defined());
  Tensor z = x * 3;
  z.zero_();
  (z + x).backward(ones({3}));
  CHECK(values(x.grad()) == Values{1, 1, 1});
}

TEST_CASE("results do not depend on the number of threads") {
  manual_seed(4);
  const Tensor x = randn({700, 311}), y = randn({311});
  const int threads = num_threads();
  const auto compute = [&](int count) {
    set_num_threads(count);
    return values(gelu(x.t().clone() * 2).t() + exp(y) - gt(x, y).to(DType::f32));
  };
  const Values one = compute(1), four = compute(4);
  set_num_threads(threads);
  CHECK(one == four);
}

TEST_CASE("rounding, signs and truth values follow the rules") {
  const Tensor x = tensor({-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 2.7});
  CHECK(values(round(x)) == Values{-2, -2, 0, 0, 2, 2, 3});
  CHECK(values(floor(x)) == Values{-3, -2, -1, 0, 1, 2, 2});
  CHECK(values(ceil(x)) == Values{-2, -1, 0, 1, 2, 3, 3});
  CHECK(values(trunc(x)) == Values{-2, -1, 0, 0, 1, 2, 2});
  CHECK(values(sign(tensor({-3, 0, 9}))) == Values{-1, 0, 1});
  CHECK(values(abs(tensor({-3, 0, 9}))) == Values{3, 0, 9});
  const Tensor odd = f64({kNan, kInf, -kInf, 0, 1});
  CHECK(values(isnan(odd)) == Values{1, 0, 0, 0, 0});
  CHECK(values(isinf(odd)) == Values{0, 1, 1, 0, 0});
  CHECK(values(isfinite(odd)) == Values{0, 0, 0, 1, 1});
  CHECK(values(isfinite(tensor({1, 2}))) == Values{1, 1});
  CHECK(values(logical_not(odd)) == Values{0, 0, 0, 1, 0});
  const Tensor a = tensor({0, 1, 2}), b = tensor({5.0, 0.0, 1.0});
  CHECK(values(logical_and(a, b)) == Values{0, 0, 1});
  CHECK(values(logical_or(a, b)) == Values{1, 1, 1});
  CHECK(values(logical_xor(a, b)) == Values{1, 1, 0});
  CHECK(values(bitwise_and(tensor({12, 7}), tensor({10, 8}))) == Values{8, 0});
  CHECK(values(bitwise_or(tensor({12, 7}), tensor({10, 8}))) == Values{14, 15});
  CHECK(values(bitwise_xor(tensor({12, 7}), tensor({10, 8}))) == Values{6, 15});
  CHECK(values(eq(a, 1)) == Values{0, 1, 0});
  CHECK(values(ne(a, 1)) == Values{1, 0, 1});
  CHECK(values(lt(1, a)) == Values{0, 0, 1});
  CHECK(values(le(a, 1)) == Values{1, 1, 0});
  CHECK(values(ge(a, 1)) == Values{0, 1, 1});
  // No comparison holds for NaN except "not equal".
  CHECK(values(eq(odd, odd)) == Values{0, 1, 1, 1, 1});
  CHECK(values(ne(odd, odd)) == Values{1, 0, 0, 0, 0});
}

TEST_CASE("maximum, minimum and clamp keep NaN") {
  const Tensor a = f64({kNan, 1, 2}), b = f64({1, kNan, 1});
  CHECK(same(values(maximum(a, b)), {kNan, kNan, 2}));
  CHECK(same(values(minimum(a, b)), {kNan, kNan, 1}));
  CHECK(same(values(clamp(f64({kNan, -9, 9}), -1.0, 1.0)), {kNan, -1, 1}));
  CHECK(values(clamp(tensor({-5, 0, 5}), -2)) == Values{-2, 0, 5});
  CHECK(values(clamp(tensor({-5, 0, 5}), {}, 3)) == Values{-5, 0, 3});
  CHECK(clamp(tensor({-5, 0, 5}), 0.5).dtype() == DType::f32);
  CHECK(values(clamp(tensor({-5.0, 5.0}), 2.0, 1.0)) == Values{1, 1});
}

TEST_CASE("division and its relatives, of whole and of real numbers") {
  const Tensor a = tensor({7, -7, 7, -7}), b = tensor({2, 2, -2, -2});
  const auto whole_and_real = [&](Tensor (*op)(const Tensor&, const Tensor&),
                                  const Values& expected) {
    CHECK(values(op(a, b)) == expected);
    CHECK(op(a, b).dtype() == DType::i64);
    CHECK(values(op(a.to(DType::f32), b.to(DType::f32))) == expected);
    CHECK(values(op(a.to(DType::f64), b.to(DType::f64))) == expected);
  };
  whole_and_real(floor_divide, {3, -4, -4, 3});
  whole_and_real(remainder, {1, 1, -1, -1});
  whole_and_real(fmod, {1, -1, 1, -1});
  CHECK(values(a / b) == Values{3.5, -3.5, -3.5, 3.5});
  CHECK(same(values(floor_divide(f64({1, -1, 0}), f64({0, 0, 0}))), {kInf, -kInf, kNan}));
  const Tensor lowest = full({1}, std::numeric_limits<int64_t>::min());
  CHECK(floor_divide(lowest, -1).item<int64_t>() == std::numeric_limits<int64_t>::min());
  CHECK(remainder(lowest, -1).item<int64_t>() == 0);
  check_error<ArgumentError>("floor_divide_by_zero", [&] { floor_divide(a, 0); });
  check_error<ArgumentError>("remainder_by_zero", [&] { remainder(a, tensor({1, 0, 1, 1})); });
  check_error<ArgumentError>("fmod_by_zero", [&] { fmod(a, 0); });
}

TEST_CASE("pow of whole numbers is exact; its special exponents agree with the general one") {
  CHECK(values(pow(tensor({2, -3, 0}), 5)) == Values{32, -243, 0});
  CHECK(values(pow(tensor({2, 3, 5}), tensor({0, 1, 2}))) == Values{1, 3, 25});
  CHECK(values(pow(tensor({1, -1, 2}), tensor({-3, -3, -3}))) == Values{1, -1, 0});
  CHECK(values(pow(2.0, tensor({0.0, 3.0}))) == Values{1, 8});
  const Tensor x = tensor({0.5, 2.0, 9.0});
  CHECK(values(pow(x, 2)) == values(pow(x, full({3}, 2.0))));
  CHECK(values(pow(x, 0.5))[2] == 3);
  check_error<ArgumentError>("pow_negative_whole", [] { pow(tensor({2, 3}), -1); });
}

TEST_CASE("where, masked_fill, lerp, addcmul, addcdiv, atan2, glu") {
  const Tensor mask = gt(tensor({1.0, -1.0, 2.0}), 0);
  const Tensor a = tensor({1.0, 2.0, 3.0}), b = tensor({10.0, 20.0, 30.0});
  CHECK(values(where(mask, a, b)) == Values{1, 20, 3});
  CHECK(values(where(mask, a, 0)) == Values{1, 0, 3});
  CHECK(values(where(mask, -1, a)) == Values{-1, 2, -1});
  CHECK(where(mask, tensor({1, 2, 3}), 0.5).dtype() == DType::f32);
  CHECK(where(mask.view({3, 1}), a, b).shape() == Shape{3, 3});
  CHECK(values(masked_fill(a, mask, -kInf)) == Values{-kInf, 2, -kInf});
  CHECK(values(lerp(a, b, 0.5)) == Values{5.5, 11, 16.5});
  CHECK(values(lerp(a, b, 1.0)) == values(b));
  CHECK(values(addcmul(a, a, b, 0.5)) == Values{6, 22, 48});
  CHECK(values(addcdiv(a, b, a, 2.0)) == Values{21, 22, 23});
  CHECK(atan2(tensor(1.0), -1).item<double>() == doctest::Approx(2.35619449));
  CHECK(values(glu(f64({3, 4, 0, 0}))) == Values{1.5, 2});
  CHECK(values(square(a)) == Values{1, 4, 9});
  CHECK(values(reciprocal(tensor({2.0, 4.0}))) == Values{0.5, 0.25});
}

TEST_CASE("pointwise ops refuse dtypes, shapes and arguments that make no sense") {
  const Tensor truth = ones({2}, {.dtype = DType::boolean}), whole = tensor({1, 2});
  const Tensor real = ones({2});
  check_error<ArgumentError>("neg_bool", [&] { neg(truth); });
  check_error<ArgumentError>("sub_bool", [&] { sub(truth, truth); });
  check_error<ArgumentError>("gelu_whole", [&] { gelu(whole); });
  check_error<ArgumentError>("bitwise_real", [&] { bitwise_and(real, real); });
  check_error<ArgumentError>("add_shapes", [] { add(ones({2, 3}), ones({2})); });
  check_error<ArgumentError>("where_condition", [&] { where(real, real, real); });
  check_error<ArgumentError>("masked_fill_mask", [&] { masked_fill(real, whole, 0); });
  check_error<ArgumentError>("masked_fill_value", [&] { masked_fill(whole, truth, 0.5); });
  check_error<ArgumentError>("clamp_no_bound", [&] { clamp(real, {}, {}); });
  check_error<ArgumentError>("hardtanh_bounds", [&] { hardtanh(real, 2, 1); });
  check_error<ArgumentError>("hardtanh_whole", [&] { hardtanh(whole); });
  check_error<ArgumentError>("softplus_beta", [&] { softplus(real, 0); });
  check_error<ArgumentError>("glu_odd", [] { glu(ones({2, 3})); });
  check_error<DeviceError>("add_devices",
                           [&] { add(real, empty({2}, {.device = Device::meta()})); });
  check_error<ArgumentError>("add_empty_handle", [&] { add(real, Tensor()); });
}
