// Rows of optimizers and schedules.
#include <weft/core/ops.hpp>
#include <weft/nn/optim/optimizers.hpp>
#include <weft/nn/optim/schedules.hpp>
#include <weft/tests/support/op_rows.hpp>

namespace weft::test {

namespace {

using Args = const OpArgs&;
using In = const std::vector<Tensor>&;
using Out = std::vector<Tensor>;

std::pair<double, double> betas(Args a) {
  const std::vector<double> values = a.reals("betas");
  return values.empty() ? std::pair(0.9, 0.999) : std::pair(values[0], values[1]);
}

/// The parameter after each step with one of the gradients.
template <class Optimizer, class Options>
Out steps(In x, const Options& options) {
  Tensor parameter = x[0].clone().requires_grad_();
  Optimizer optimizer({parameter}, options);
  Out values;
  for (size_t i = 1; i < x.size(); ++i) {
    parameter.set_grad(x[i].clone());
    optimizer.step();
    values.push_back(parameter.detach().clone());
  }
  return values;
}

/// The rates of steps 0 to 29 for a base rate of 0.5.
template <class Schedule, class Options>
Out rates(const Options& options) {
  optim::SGD optimizer(std::vector<Tensor>{zeros({1}).requires_grad_()},
                       {.lr = 0.5, .momentum = 0.9});
  Schedule schedule(optimizer, options);
  std::vector<double> values;
  for (int step = 0; step < 30; ++step) {
    values.push_back(schedule.get_last_lr().at(0));
    optimizer.step();
    schedule.step();
  }
  return {from_host(values.data(), {30}, DType::f64)};
}

Out sgd(Args a, In x) {
  return steps<optim::SGD>(x, optim::SGDOptions{.lr = a.real("lr"),
                                                .momentum = a.real("momentum"),
                                                .dampening = a.real("dampening"),
                                                .weight_decay = a.real("weight_decay"),
                                                .nesterov = a.flag("nesterov")});
}
Out adam(Args a, In x) {
  return steps<optim::Adam>(x, optim::AdamOptions{.lr = a.real("lr", 1e-3),
                                                  .betas = betas(a),
                                                  .eps = a.real("eps", 1e-8),
                                                  .weight_decay = a.real("weight_decay"),
                                                  .amsgrad = a.flag("amsgrad")});
}
Out adamw(Args a, In x) {
  return steps<optim::AdamW>(x, optim::AdamWOptions{.lr = a.real("lr", 1e-3),
                                                    .betas = betas(a),
                                                    .eps = a.real("eps", 1e-8),
                                                    .weight_decay = a.real("weight_decay", 1e-2),
                                                    .amsgrad = a.flag("amsgrad")});
}
Out rmsprop(Args a, In x) {
  return steps<optim::RMSprop>(x, optim::RMSpropOptions{.lr = a.real("lr", 1e-2),
                                                        .alpha = a.real("alpha", 0.99),
                                                        .momentum = a.real("momentum")});
}
Out adagrad(Args a, In x) {
  return steps<optim::Adagrad>(x, optim::AdagradOptions{.lr = a.real("lr", 1e-2)});
}
Out adadelta(Args a, In x) {
  return steps<optim::Adadelta>(x, optim::AdadeltaOptions{.lr = a.real("lr", 1.0)});
}
Out nadam(Args a, In x) {
  return steps<optim::NAdam>(x, optim::NAdamOptions{.lr = a.real("lr", 2e-3)});
}
Out adamax(Args a, In x) {
  return steps<optim::Adamax>(x, optim::AdamaxOptions{.lr = a.real("lr", 2e-3)});
}

Out step_lr(Args a, In) {
  return rates<optim::StepLR>(optim::StepLROptions{a.whole("step_size"), a.real("gamma", 0.1)});
}
Out multi_step_lr(Args a, In) {
  return rates<optim::MultiStepLR>(
      optim::MultiStepLROptions{a.list("milestones"), a.real("gamma", 0.1)});
}
Out exponential_lr(Args a, In) {
  return rates<optim::ExponentialLR>(optim::ExponentialLROptions{a.real("gamma")});
}
Out cosine_lr(Args a, In) {
  return rates<optim::CosineAnnealingLR>(
      optim::CosineAnnealingLROptions{a.whole("T_max"), a.real("eta_min")});
}
Out restarts_lr(Args a, In) {
  return rates<optim::CosineAnnealingWarmRestarts>(optim::CosineAnnealingWarmRestartsOptions{
      a.whole("T_0"), a.whole("T_mult", 1), a.real("eta_min")});
}
Out linear_lr(Args a, In) {
  return rates<optim::LinearLR>(optim::LinearLROptions{
      a.real("start_factor", 1.0 / 3), a.real("end_factor", 1.0), a.whole("total_iters", 5)});
}
Out constant_lr(Args a, In) {
  return rates<optim::ConstantLR>(
      optim::ConstantLROptions{a.real("factor", 1.0 / 3), a.whole("total_iters", 5)});
}
Out polynomial_lr(Args a, In) {
  return rates<optim::PolynomialLR>(
      optim::PolynomialLROptions{a.whole("total_iters", 5), a.real("power", 1.0)});
}
Out one_cycle_lr(Args a, In) {
  return rates<optim::OneCycleLR>(
      optim::OneCycleLROptions{.max_lr = a.real("max_lr"), .total_steps = a.whole("total_steps")});
}

}  // namespace

void add_training_rows(std::vector<OpRow>& rows) {
  const auto optimizer = [&](const char* name, OpCall call) {
    rows.push_back({.name = name, .call = call, .kind = OpKind::optimizer});
  };
  optimizer("optim_SGD", sgd);
  optimizer("optim_Adam", adam);
  optimizer("optim_AdamW", adamw);
  optimizer("optim_RMSprop", rmsprop);
  optimizer("optim_Adagrad", adagrad);
  optimizer("optim_Adadelta", adadelta);
  optimizer("optim_NAdam", nadam);
  optimizer("optim_Adamax", adamax);
  const auto schedule = [&](const char* name, OpCall call) {
    rows.push_back({.name = name, .call = call, .kind = OpKind::schedule, .bound = 1e-12});
  };
  schedule("lr_StepLR", step_lr);
  schedule("lr_MultiStepLR", multi_step_lr);
  schedule("lr_ExponentialLR", exponential_lr);
  schedule("lr_CosineAnnealingLR", cosine_lr);
  schedule("lr_CosineAnnealingWarmRestarts", restarts_lr);
  schedule("lr_LinearLR", linear_lr);
  schedule("lr_ConstantLR", constant_lr);
  schedule("lr_PolynomialLR", polynomial_lr);
  schedule("lr_OneCycleLR", one_cycle_lr);
}

}  // namespace weft::test
