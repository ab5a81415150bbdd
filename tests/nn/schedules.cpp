// Learning-rate schedules: their values at chosen steps, and how they are driven.
#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include <weft/core/base/error.hpp>
#include <weft/core/ops.hpp>
#include <weft/nn/optim/optimizers.hpp>
#include <weft/nn/optim/schedules.hpp>
#include <weft/tests/support/errors.hpp>

using namespace weft;
using weft::test::check_error;

namespace {

std::vector<Tensor> one_parameter() { return {zeros({1}, {.requires_grad = true})}; }

/// The rates of steps 0 … n-1 for a base rate of 0.5.
template <class S, class Options>
std::vector<double> rates(const Options& options, int64_t n) {
  optim::SGD optimizer(one_parameter(), {.lr = 0.5});
  S schedule(optimizer, options);
  std::vector<double> values;
  for (int64_t i = 0; i < n; ++i) {
    if (i > 0) schedule.step();
    values.push_back(optimizer.groups()[0].lr);
    CHECK(schedule.get_last_lr()[0] == values.back());
    CHECK(schedule.last_step() == i);
  }
  return values;
}

void check_rates(const std::vector<double>& got, const std::vector<double>& want) {
  REQUIRE(got.size() == want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    CAPTURE(i);
    CHECK(got[i] == doctest::Approx(want[i]).epsilon(1e-9));
  }
}

}  // namespace

TEST_CASE("schedules by factors") {
  check_rates(rates<optim::StepLR>(optim::StepLROptions{.step_size = 2, .gamma = 0.5}, 5),
              {0.5, 0.5, 0.25, 0.25, 0.125});
  check_rates(
      rates<optim::MultiStepLR>(optim::MultiStepLROptions{.milestones = {3, 1}, .gamma = 0.1}, 5),
      {0.5, 0.05, 0.05, 0.005, 0.005});
  check_rates(rates<optim::ExponentialLR>(optim::ExponentialLROptions{.gamma = 0.9}, 3),
              {0.5, 0.45, 0.405});
  check_rates(
      rates<optim::ConstantLR>(optim::ConstantLROptions{.factor = 0.2, .total_iters = 2}, 4),
      {0.1, 0.1, 0.5, 0.5});
  check_rates(
      rates<optim::LinearLR>(optim::LinearLROptions{.start_factor = 0.5, .total_iters = 2}, 4),
      {0.25, 0.375, 0.5, 0.5});
  check_rates(
      rates<optim::PolynomialLR>(optim::PolynomialLROptions{.total_iters = 4, .power = 2}, 6),
      {0.5, 0.28125, 0.125, 0.03125, 0, 0});
  check_rates(
      rates<optim::LambdaLR>(
          optim::LambdaLROptions{[](int64_t t) { return 1.0 / static_cast<double>(t + 1); }}, 3),
      {0.5, 0.25, 0.5 / 3});
}

TEST_CASE("cosine schedules") {
  check_rates(rates<optim::CosineAnnealingLR>(
                  optim::CosineAnnealingLROptions{.T_max = 4, .eta_min = 0.1}, 9),
              {0.5, 0.3 + 0.2 * std::sqrt(0.5), 0.3, 0.3 - 0.2 * std::sqrt(0.5), 0.1,
               0.3 - 0.2 * std::sqrt(0.5), 0.3, 0.3 + 0.2 * std::sqrt(0.5), 0.5});
  check_rates(
      rates<optim::CosineAnnealingWarmRestarts>(
          optim::CosineAnnealingWarmRestartsOptions{.T_0 = 2, .T_mult = 2}, 7),
      {0.5, 0.25, 0.5, 0.25 + 0.25 * std::sqrt(0.5), 0.25, 0.25 - 0.25 * std::sqrt(0.5), 0.5});
}

TEST_CASE("one cycle of rate and momentum") {
  optim::AdamW optimizer(one_parameter(), {.lr = 123});
  optim::OneCycleLR schedule(optimizer, {.max_lr = 1.0, .total_steps = 11, .pct_start = 0.5});
  CHECK(optimizer.groups()[0].lr == doctest::Approx(0.04));
  CHECK(optimizer.groups()[0].betas.first == doctest::Approx(0.95));
  double largest = 0, smallest_momentum = 1;
  for (int i = 1; i < 11; ++i) {
    schedule.step();
    largest = std::max(largest, optimizer.groups()[0].lr);
    smallest_momentum = std::min(smallest_momentum, optimizer.groups()[0].betas.first);
  }
  CHECK(largest > 0.97);
  CHECK(smallest_momentum < 0.853);
  CHECK(optimizer.groups()[0].lr == doctest::Approx(0.04e-4));
  check_error<ArgumentError>("one_cycle_end", [&] { schedule.step(); });
  optim::SGD three(one_parameter(), {.lr = 1, .momentum = 0.9});
  optim::OneCycleLR phases(
      three,
      {.max_lr = 1.0, .total_steps = 20, .pct_start = 0.4, .cosine = false, .three_phase = true});
  phases.set_step(7);
  CHECK(three.groups()[0].lr == doctest::Approx(1));
  CHECK(three.groups()[0].momentum == doctest::Approx(0.85));
  phases.set_step(14);
  CHECK(three.groups()[0].lr == doctest::Approx(0.04));
}

TEST_CASE("a schedule waits while the optimizer's gate is closed, and goes to any step") {
  optim::SGD optimizer({{.params = one_parameter(), .lr = 1.0}, {.params = one_parameter()}},
                       {.lr = 0.5});
  optim::StepLR schedule(optimizer, {.step_size = 1, .gamma = 0.1});
  optimizer.set_gate([] { return false; });
  schedule.step();
  CHECK(schedule.last_step() == 0);
  optimizer.set_gate(nullptr);
  schedule.step();
  CHECK(optimizer.groups()[0].lr == doctest::Approx(0.1));
  CHECK(optimizer.groups()[1].lr == doctest::Approx(0.05));
  schedule.set_step(3);
  CHECK(schedule.get_last_lr()[1] == doctest::Approx(0.0005));
  check_error<ArgumentError>("schedule_step", [&] { schedule.set_step(-1); });
}

TEST_CASE("a second schedule starts from the rate before the first") {
  optim::SGD optimizer(one_parameter(), {.lr = 0.5});
  optim::ConstantLR warm_up(optimizer, {.factor = 0.1, .total_iters = 3});
  CHECK(optimizer.groups()[0].lr == doctest::Approx(0.05));
  optim::ExponentialLR decay(optimizer, {.gamma = 0.5});
  CHECK(optimizer.groups()[0].lr == doctest::Approx(0.5));
}

TEST_CASE("what schedules refuse") {
  optim::SGD optimizer(one_parameter(), {.lr = 0.5});
  check_error<ArgumentError>("step_lr_size",
                             [&] { optim::StepLR bad(optimizer, {.step_size = 0}); });
  check_error<ArgumentError>("lambda_lr_empty", [&] { optim::LambdaLR bad(optimizer, {}); });
  check_error<ArgumentError>("constant_lr_factor",
                             [&] { optim::ConstantLR bad(optimizer, {.factor = 2}); });
  check_error<ArgumentError>("linear_lr_start",
                             [&] { optim::LinearLR bad(optimizer, {.start_factor = 0}); });
  check_error<ArgumentError>("linear_lr_end",
                             [&] { optim::LinearLR bad(optimizer, {.end_factor = 2}); });
  check_error<ArgumentError>("one_cycle_start",
                             [&] { optim::OneCycleLR bad(optimizer, {.pct_start = 2}); });
}
