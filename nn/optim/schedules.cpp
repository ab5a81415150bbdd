#include <weft/nn/optim/schedules.hpp>

#include <algorithm>
#include <cmath>

#include <weft/core/base/check.hpp>

namespace weft::inline v0::optim {

namespace {

constexpr double kPi = 3.14159265358979323846;

double as_double(int64_t value) { return static_cast<double>(value); }

void check_positive(const char* schedule, const char* what, int64_t value) {
  WEFT_CHECK(ArgumentError, value >= 1, "{}: {} is {}; it must be at least 1", schedule, what,
             value);
}

/// From `start` to `end` on half a cosine wave.
double cosine(double start, double end, double part) {
  return end + (start - end) * (1 + std::cos(kPi * part)) / 2;
}

}  // namespace

Schedule::Schedule(Optimizer& optimizer) : optimizer_(&optimizer) {
  for (Group& group : optimizer.groups())
    if (group.initial_lr < 0) group.initial_lr = group.lr;
}

Schedule::~Schedule() = default;

void Schedule::adjust(Group&, int64_t) const {}

void Schedule::apply() {
  std::vector<Group>& groups = optimizer_->groups();
  for (size_t i = 0; i < groups.size(); ++i) {
    groups[i].lr = rate(groups[i].initial_lr, step_, i);
    adjust(groups[i], step_);
  }
}

void Schedule::step() {
  if (!optimizer_->is_open()) return;
  ++step_;
  apply();
}

void Schedule::set_step(int64_t step) {
  WEFT_CHECK(ArgumentError, step >= 0, "set_step: there is no step {}", step);
  step_ = step;
  apply();
}

std::vector<double> Schedule::get_last_lr() const {
  std::vector<double> rates;
  for (const Group& group : optimizer_->groups()) rates.push_back(group.lr);
  return rates;
}

LambdaLR::LambdaLR(Optimizer& optimizer, LambdaLROptions options)
    : Schedule(optimizer), options_(std::move(options)) {
  WEFT_CHECK(ArgumentError, options_.lr_lambda != nullptr, "LambdaLR: lr_lambda is empty");
  apply();
}
double LambdaLR::rate(double base, int64_t t, size_t) const { return base * options_.lr_lambda(t); }

StepLR::StepLR(Optimizer& optimizer, StepLROptions options)
    : Schedule(optimizer), options_(options) {
  check_positive("StepLR", "step_size", options.step_size);
  apply();
}
double StepLR::rate(double base, int64_t t, size_t) const {
  return base * std::pow(options_.gamma, as_double(t / options_.step_size));
}

MultiStepLR::MultiStepLR(Optimizer& optimizer, MultiStepLROptions options)
    : Schedule(optimizer), options_(std::move(options)) {
  std::sort(options_.milestones.begin(), options_.milestones.end());
  apply();
}
double MultiStepLR::rate(double base, int64_t t, size_t) const {
  const auto& milestones = options_.milestones;
  const auto passed = std::upper_bound(milestones.begin(), milestones.end(), t);
  return base * std::pow(options_.gamma, as_double(passed - milestones.begin()));
}

ExponentialLR::ExponentialLR(Optimizer& optimizer, ExponentialLROptions options)
    : Schedule(optimizer), options_(options) {
  apply();
}
double ExponentialLR::rate(double base, int64_t t, size_t) const {
  return base * std::pow(options_.gamma, as_double(t));
}

ConstantLR::ConstantLR(Optimizer& optimizer, ConstantLROptions options)
    : Schedule(optimizer), options_(options) {
  WEFT_CHECK(ArgumentError, options.factor >= 0 && options.factor <= 1,
             "ConstantLR: factor is {}; it must be in [0, 1]", options.factor);
  apply();
}
double ConstantLR::rate(double base, int64_t t, size_t) const {
  return t < options_.total_iters ? base * options_.factor : base;
}

LinearLR::LinearLR(Optimizer& optimizer, LinearLROptions options)
    : Schedule(optimizer), options_(options) {
  check_positive("LinearLR", "total_iters", options.total_iters);
  WEFT_CHECK(ArgumentError, options.start_factor > 0 && options.start_factor <= 1,
             "LinearLR: start_factor is {}; it must be in (0, 1]", options.start_factor);
  WEFT_CHECK(ArgumentError, options.end_factor >= 0 && options.end_factor <= 1,
             "LinearLR: end_factor is {}; it must be in [0, 1]", options.end_factor);
  apply();
}
double LinearLR::rate(double base, int64_t t, size_t) const {
  const double part =
      as_double(std::min(t, options_.total_iters)) / as_double(options_.total_iters);
  return base * (options_.start_factor + (options_.end_factor - options_.start_factor) * part);
}

PolynomialLR::PolynomialLR(Optimizer& optimizer, PolynomialLROptions options)
    : Schedule(optimizer), options_(options) {
  check_positive("PolynomialLR", "total_iters", options.total_iters);
  apply();
}
double PolynomialLR::rate(double base, int64_t t, size_t) const {
  const double part =
      as_double(std::min(t, options_.total_iters)) / as_double(options_.total_iters);
  return base * std::pow(1 - part, options_.power);
}

CosineAnnealingLR::CosineAnnealingLR(Optimizer& optimizer, CosineAnnealingLROptions options)
    : Schedule(optimizer), options_(options) {
  check_positive("CosineAnnealingLR", "T_max", options.T_max);
  apply();
}
double CosineAnnealingLR::rate(double base, int64_t t, size_t) const {
  return cosine(base, options_.eta_min, as_double(t) / as_double(options_.T_max));
}

CosineAnnealingWarmRestarts::CosineAnnealingWarmRestarts(Optimizer& optimizer,
                                                         CosineAnnealingWarmRestartsOptions options)
    : Schedule(optimizer), options_(options) {
  check_positive("CosineAnnealingWarmRestarts", "T_0", options.T_0);
  check_positive("CosineAnnealingWarmRestarts", "T_mult", options.T_mult);
  apply();
}
double CosineAnnealingWarmRestarts::rate(double base, int64_t t, size_t) const {
  int64_t period = options_.T_0;
  if (options_.T_mult == 1) t %= period;
  while (t >= period) {
    t -= period;
    period *= options_.T_mult;
  }
  return cosine(base, options_.eta_min, as_double(t) / as_double(period));
}

OneCycleLR::OneCycleLR(Optimizer& optimizer, OneCycleLROptions options)
    : Schedule(optimizer), options_(options) {
  check_positive("OneCycleLR", "total_steps", options.total_steps);
  WEFT_CHECK(ArgumentError, options.pct_start >= 0 && options.pct_start <= 1,
             "OneCycleLR: pct_start is {}; it must be in [0, 1]", options.pct_start);
  for (Group& group : optimizer.groups()) group.initial_lr = options.max_lr / options.div_factor;
  apply();
}

double OneCycleLR::between(int64_t t, double start, double top, double end) const {
  const double steps = as_double(options_.total_steps), now = as_double(t);
  const double first = options_.pct_start * steps - 1, last = steps - 1;
  const auto move = [this](double from, double to, double part) {
    return options_.cosine ? cosine(from, to, part) : from + (to - from) * part;
  };
  if (now <= first) return move(start, top, now / first);
  if (!options_.three_phase) return move(top, end, (now - first) / (last - first));
  const double second = 2 * options_.pct_start * steps - 2;
  if (now <= second) return move(top, start, (now - first) / (second - first));
  return move(start, end, (now - second) / (last - second));
}

double OneCycleLR::rate(double, int64_t t, size_t) const {
  WEFT_CHECK(ArgumentError, t < options_.total_steps,
             "OneCycleLR: step {} of {}; make the schedule with more total_steps", t + 1,
             options_.total_steps);
  const double start = options_.max_lr / options_.div_factor;
  return between(t, start, options_.max_lr, start / options_.final_div_factor);
}

void OneCycleLR::adjust(Group& group, int64_t t) const {
  if (!options_.cycle_momentum) return;
  const double low = options_.base_momentum, high = options_.max_momentum;
  // In the last of three phases momentum stays high, as it does at both ends of two.
  const double momentum = between(t, high, low, high);
  if (group.momentum > 0)
    group.momentum = momentum;
  else
    group.betas.first = momentum;
}

}  // namespace weft::inline v0::optim
