// Own mathematical functions against the C library's in double, over grids that reach every range
// of their arguments. A compiler flag that reorders or shortens floating-point arithmetic would
// break the tricks they rest on; these bounds would show it.
#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include <weft/core/cpu/level.hpp>
#include <weft/core/ops.hpp>

using namespace weft;

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

/// Every so-manyth float of both signs, from 0 over the subnormal ones to infinity.
std::vector<float> all_magnitudes(uint32_t step) {
  std::vector<float> values;
  for (uint32_t bits = 0; bits <= 0x7f800000u; bits += step) {
    const auto value = std::bit_cast<float>(bits);
    values.push_back(value);
    values.push_back(-value);
  }
  return values;
}

/// Distance in units of the last place of the exact result; where that is subnormal, of the
/// smallest number.
double ulps(float value, double exact) {
  if (std::isnan(exact)) return std::isnan(value) ? 0 : 1e30;
  const auto nearest = static_cast<float>(exact);
  if (value == nearest) return 0;
  if (std::isinf(nearest) || std::isinf(value) || std::isnan(value)) return 1e30;
  const int exponent = std::max(std::ilogb(exact), -126);
  return std::abs(static_cast<double>(value) - exact) / std::ldexp(1.0, exponent - 23);
}

struct Function {
  const char* name;
  Tensor (*own)(const Tensor&);
  double (*exact)(double);
  double low, high;  // arguments
  double most_ulps;
  double most_unfused = 0;  // where it differs: on CPUs that round products before they add them
};

}  // namespace

TEST_CASE("float functions stay within a few ulp of double ones") {
  const Function functions[] = {
      {"exp", weft::exp, std::exp, -87, 89, 1.2},
      {"exp subnormal", weft::exp, std::exp, -110, -87, 1.2},
      {"expm1", weft::expm1, std::expm1, -kInf, 88, 2.5},
      {"log", weft::log, std::log, -1, kInf, 1.5},
      {"log2", weft::log2, std::log2, -1, kInf, 2.5},
      {"log10", weft::log10, std::log10, -1, kInf, 2.5},
      {"tanh", weft::tanh, std::tanh, -kInf, kInf, 5, 6.5},
      {"erf", weft::erf, std::erf, -kInf, kInf, 5, 6.5},
      {"sigmoid", weft::sigmoid, [](double x) { return 1 / (1 + std::exp(-x)); }, -87, kInf, 3},
      {"sqrt", weft::sqrt, std::sqrt, -1, kInf, 0.51},
      {"rsqrt", weft::rsqrt, [](double x) { return 1 / std::sqrt(x); }, 1e-37, kInf, 1.6},
  };
  const std::vector<float> grid = all_magnitudes(10007);
  for (const Function& f : functions) {
    CAPTURE(f.name);
    std::vector<float> x;
    for (const float v : grid)
      if (v >= f.low && v <= f.high) x.push_back(v);
    // Between the powers of two the magnitudes are sparse: an even grid over the middle.
    for (double v = std::max(f.low, -30.0); v <= std::min(f.high, 30.0); v += 0.000731)
      x.push_back(static_cast<float>(v));
    const std::vector<float> y = f.own(tensor(x)).to_vector<float>();
    double worst = 0;
    float at = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const double error = ulps(y[i], f.exact(static_cast<double>(x[i])));
      if (error > worst) {
        worst = error;
        at = x[i];
      }
    }
    CAPTURE(at);
    const bool fused = detail::cpu_level() != detail::CpuLevel::baseline;
    CHECK(worst <= (fused || f.most_unfused == 0 ? f.most_ulps : f.most_unfused));
  }
}

TEST_CASE("float functions at the limits: zeros, infinities, NaN") {
  const Tensor x = tensor<float>({0.0f, kInf, -kInf, kNan, -1.0f, 1000.0f, -1000.0f});
  const auto check = [&](Tensor (*f)(const Tensor&), const std::vector<float>& expected) {
    const std::vector<float> y = f(x).to_vector<float>();
    for (size_t i = 0; i < expected.size(); ++i) {
      CAPTURE(i);
      if (std::isnan(expected[i]))
        CHECK(std::isnan(y[i]));
      else if (std::isinf(expected[i]))
        CHECK(y[i] == expected[i]);
      else
        CHECK(y[i] == doctest::Approx(expected[i]).epsilon(1e-6));
    }
  };
  check(weft::exp, {1, kInf, 0, kNan, 0.36787944f, kInf, 0});
  check(weft::expm1, {0, kInf, -1, kNan, -0.63212056f, kInf, -1});
  check(weft::log, {-kInf, kInf, kNan, kNan, kNan, 6.9077554f, kNan});
  check(weft::log2, {-kInf, kInf, kNan, kNan, kNan, 9.9657843f, kNan});
  check(weft::log10, {-kInf, kInf, kNan, kNan, kNan, 3, kNan});
  check(weft::tanh, {0, 1, -1, kNan, -0.76159416f, 1, -1});
  check(weft::erf, {0, 1, -1, kNan, -0.84270079f, 1, -1});
  check(weft::sigmoid, {0.5f, 1, 0, kNan, 0.26894142f, 1, 0});
  check(weft::relu, {0, kInf, 0, kNan, 0, 1000, 0});
  check(weft::logsigmoid, {-0.69314718f, 0, -kInf, kNan, -1.3132616f, 0, -1000});
  check(weft::sign, {0, 1, -1, kNan, -1, 1, -1});
  check([](const Tensor& t) { return softplus(t); },
        {0.69314718f, kInf, 0, kNan, 0.31326168f, 1000, 0});
  // A result of exactly 1 is what training with saturated units relies on.
  CHECK(weft::tanh(tensor({9.5f, -20.0f})).to_vector<float>() == std::vector<float>{1.0f, -1.0f});
  CHECK(weft::erf(tensor({4.0f, -20.0f})).to_vector<float>() == std::vector<float>{1.0f, -1.0f});
}

TEST_CASE("activations are close to their definitions in double") {
  std::vector<float> x;
  for (double v = -12; v <= 12; v += 0.0137) x.push_back(static_cast<float>(v));
  const auto check = [&](const char* name, const std::function<Tensor(const Tensor&)>& own,
                         const std::function<double(double)>& exact, double tolerance) {
    CAPTURE(name);
    const std::vector<float> y = own(tensor(x)).to_vector<float>();
    double worst = 0;
    for (size_t i = 0; i < x.size(); ++i)
      worst =
          std::max(worst, std::abs(static_cast<double>(y[i]) - exact(static_cast<double>(x[i]))));
    CHECK(worst <= tolerance);
  };
  const auto gate = [](double u) { return std::tanh(std::log1p(std::exp(u))); };
  check(
      "gelu", [](const Tensor& t) { return gelu(t); },
      [](double v) { return 0.5 * v * (1 + std::erf(v / std::sqrt(2.0))); }, 2e-6);
  check(
      "gelu tanh", [](const Tensor& t) { return gelu(t, {GeluApproximation::tanh}); },
      [](double v) {
        return 0.5 * v *
               (1 + std::tanh(std::sqrt(2 / 3.14159265358979) * (v + 0.044715 * v * v * v)));
      },
      2e-6);
  check(
      "silu", silu, [](double v) { return v / (1 + std::exp(-v)); }, 2e-6);
  check(
      "mish", mish, [&](double v) { return v * gate(v); }, 2e-6);
  check(
      "softplus", [](const Tensor& t) { return softplus(t, 2.0); },
      [](double v) { return std::log1p(std::exp(2 * v)) / 2; }, 2e-6);
  check(
      "elu", [](const Tensor& t) { return elu(t, 0.7); },
      [](double v) { return v > 0 ? v : 0.7 * std::expm1(v); }, 1e-6);
  check(
      "logsigmoid", logsigmoid, [](double v) { return -std::log1p(std::exp(-v)); }, 2e-6);
}
