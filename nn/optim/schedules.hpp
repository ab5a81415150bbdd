// Learning-rate schedules, with PyTorch's names, defaults and values (its closed forms, so that a
// schedule may be set to any step).
#pragma once

#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include <weft/nn/optim/optimizer.hpp>

namespace weft::inline v0::optim {

/// Base of the schedules: sets every group's lr from its initial_lr and the number of steps so far.
/// The constructor sets the rate of step 0. The optimizer must outlive the schedule.
class WEFT_API Schedule {
 public:
  Schedule(const Schedule&) = delete;
  Schedule& operator=(const Schedule&) = delete;
  virtual ~Schedule();

  /// To the next step; nothing while the optimizer's gate is closed (accumulating gradients).
  void step();
  /// Steps taken so far.
  int64_t last_step() const { return step_; }
  /// Goes to a step at once (loading a checkpoint). Throws ArgumentError below 0.
  void set_step(int64_t step);
  /// The rate of each group now.
  std::vector<double> get_last_lr() const;
  Optimizer& optimizer() const { return *optimizer_; }

 protected:
  explicit Schedule(Optimizer& optimizer);
  /// The rate of group number `group`, of initial rate `base`, at step `t`.
  virtual double rate(double base, int64_t t, size_t group) const = 0;
  /// Other numbers of the group that follow the step (OneCycleLR's momentum).
  virtual void adjust(Group& group, int64_t t) const;
  /// Sets the rates; constructors call it at their end.
  void apply();

 private:
  Optimizer* optimizer_;
  int64_t step_ = 0;
};

struct LambdaLROptions {
  std::function<double(int64_t)> lr_lambda = nullptr;  ///< factor at each step
};
struct StepLROptions {
  int64_t step_size = 1;
  double gamma = 0.1;
};
struct MultiStepLROptions {
  std::vector<int64_t> milestones = {};
  double gamma = 0.1;
};
struct ExponentialLROptions {
  double gamma = 0.9;
};
struct ConstantLROptions {
  double factor = 1.0 / 3;
  int64_t total_iters = 5;
};
struct LinearLROptions {
  double start_factor = 1.0 / 3;
  double end_factor = 1.0;
  int64_t total_iters = 5;
};
struct PolynomialLROptions {
  int64_t total_iters = 5;
  double power = 1.0;
};
struct CosineAnnealingLROptions {
  int64_t T_max = 1;  ///< steps from the initial rate to eta_min
  double eta_min = 0;
};
struct CosineAnnealingWarmRestartsOptions {
  int64_t T_0 = 1;     ///< steps to the first restart
  int64_t T_mult = 1;  ///< factor of the period at each restart
  double eta_min = 0;
};
/// Smith and Topin, Super-Convergence, 2018. Momentum (beta1) moves against the rate.
struct OneCycleLROptions {
  double max_lr = 0.1;
  int64_t total_steps = 1;
  double pct_start = 0.3;
  bool cosine = true;  ///< else linear
  bool cycle_momentum = true;
  double base_momentum = 0.85;
  double max_momentum = 0.95;
  double div_factor = 25;
  double final_div_factor = 1e4;
  bool three_phase = false;
};

// Each is made from an optimizer and its options; constructors throw ArgumentError for numbers out
// of their range.
#define WEFT_SCHEDULE(Name)                                           \
  class WEFT_API Name : public Schedule {                             \
   public:                                                            \
    Name(Optimizer& optimizer, Name##Options options);                \
                                                                      \
   protected:                                                         \
    double rate(double base, int64_t t, size_t group) const override; \
                                                                      \
   private:                                                           \
    Name##Options options_;                                           \
  };
WEFT_SCHEDULE(LambdaLR)
WEFT_SCHEDULE(StepLR)
WEFT_SCHEDULE(MultiStepLR)
WEFT_SCHEDULE(ExponentialLR)
WEFT_SCHEDULE(ConstantLR)
WEFT_SCHEDULE(LinearLR)
WEFT_SCHEDULE(PolynomialLR)
WEFT_SCHEDULE(CosineAnnealingLR)
WEFT_SCHEDULE(CosineAnnealingWarmRestarts)
#undef WEFT_SCHEDULE

/// See OneCycleLROptions. step() beyond total_steps throws ArgumentError.
class WEFT_API OneCycleLR : public Schedule {
 public:
  OneCycleLR(Optimizer& optimizer, OneCycleLROptions options);

 protected:
  double rate(double base, int64_t t, size_t group) const override;
  void adjust(Group& group, int64_t t) const override;

 private:
  double between(int64_t t, double start, double top, double end) const;
  OneCycleLROptions options_;
};

}  // namespace weft::inline v0::optim
