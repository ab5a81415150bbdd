#include <weft/nn/optim/optimizers.hpp>

#include <cmath>

namespace weft::inline v0::optim {

namespace {

Group group_of(const SGDOptions& o) {
  Group g;
  g.lr = o.lr;
  g.momentum = o.momentum;
  g.dampening = o.dampening;
  g.weight_decay = o.weight_decay;
  g.nesterov = o.nesterov;
  g.maximize = o.maximize;
  return g;
}

/// What the options of the Adam family have in common.
template <class Options>
Group moments_of(const Options& o) {
  Group g;
  g.lr = o.lr;
  g.betas = o.betas;
  g.eps = o.eps;
  g.weight_decay = o.weight_decay;
  return g;
}

template <class Options>
Group adam_of(const Options& o, bool decoupled) {
  Group g = moments_of(o);
  g.amsgrad = o.amsgrad;
  g.maximize = o.maximize;
  g.decoupled = decoupled;
  return g;
}

Group group_of(const AdamOptions& o) { return adam_of(o, false); }
Group group_of(const AdamWOptions& o) { return adam_of(o, true); }
Group group_of(const AdamaxOptions& o) { return moments_of(o); }

Group group_of(const NAdamOptions& o) {
  Group g = moments_of(o);
  g.momentum_decay = o.momentum_decay;
  return g;
}

Group group_of(const RMSpropOptions& o) {
  Group g;
  g.lr = o.lr;
  g.alpha = o.alpha;
  g.eps = o.eps;
  g.weight_decay = o.weight_decay;
  g.momentum = o.momentum;
  g.centered = o.centered;
  return g;
}

Group group_of(const AdagradOptions& o) {
  Group g;
  g.lr = o.lr;
  g.lr_decay = o.lr_decay;
  g.weight_decay = o.weight_decay;
  g.initial_value = o.initial_accumulator_value;
  g.eps = o.eps;
  return g;
}

Group group_of(const AdadeltaOptions& o) {
  Group g;
  g.lr = o.lr;
  g.rho = o.rho;
  g.eps = o.eps;
  g.weight_decay = o.weight_decay;
  return g;
}

/// 1 - beta^step for both moments.
void correct(StepAttrs& attrs, int64_t step) {
  attrs.correction1 = 1 - std::pow(attrs.beta1, static_cast<double>(step));
  attrs.correction2 = 1 - std::pow(attrs.beta2, static_cast<double>(step));
}

}  // namespace

// Slot names are PyTorch's.
#define WEFT_OPTIMIZER(Name, ...)                                                \
  Name::Name(std::vector<Tensor> params, Name##Options options)                  \
      : Name(std::vector<ParamGroup>{{.params = std::move(params)}}, options) {} \
  Name::Name(const std::vector<ParamGroup>& groups, Name##Options options)       \
      : Optimizer(#Name, {__VA_ARGS__}, group_of(options), groups) {}
WEFT_OPTIMIZER(SGD, "momentum_buffer")
WEFT_OPTIMIZER(Adam, "exp_avg", "exp_avg_sq", "max_exp_avg_sq")
WEFT_OPTIMIZER(AdamW, "exp_avg", "exp_avg_sq", "max_exp_avg_sq")
WEFT_OPTIMIZER(NAdam, "exp_avg", "exp_avg_sq")
WEFT_OPTIMIZER(Adamax, "exp_avg", "exp_inf")
WEFT_OPTIMIZER(RMSprop, "square_avg", "momentum_buffer", "grad_avg")
WEFT_OPTIMIZER(Adagrad, "sum")
WEFT_OPTIMIZER(Adadelta, "square_avg", "acc_delta")
#undef WEFT_OPTIMIZER

void SGD::update(const Group& group, Tensor& parameter, const Tensor& grad, ParamState& state) {
  StepAttrs attrs = attrs_of(group);
  Tensor changed[2] = {parameter, {}};
  if (group.momentum != 0) {
    attrs.first = !state.slots[0].defined();
    changed[1] = slot(state, 0, parameter);
  }
  run(OpId::sgd_step, attrs, grad, changed);
}

void Adam::update(const Group& group, Tensor& parameter, const Tensor& grad, ParamState& state) {
  StepAttrs attrs = attrs_of(group);
  correct(attrs, state.step);
  Tensor changed[4] = {parameter, slot(state, 0, parameter), slot(state, 1, parameter), {}};
  if (group.amsgrad) changed[3] = slot(state, 2, parameter);
  run(OpId::adam_step, attrs, grad, changed);
}

void AdamW::update(const Group& group, Tensor& parameter, const Tensor& grad, ParamState& state) {
  StepAttrs attrs = attrs_of(group);
  correct(attrs, state.step);
  Tensor changed[4] = {parameter, slot(state, 0, parameter), slot(state, 1, parameter), {}};
  if (group.amsgrad) changed[3] = slot(state, 2, parameter);
  run(OpId::adam_step, attrs, grad, changed);
}

void NAdam::update(const Group& group, Tensor& parameter, const Tensor& grad, ParamState& state) {
  StepAttrs attrs = attrs_of(group);
  correct(attrs, state.step);
  const auto t = static_cast<double>(state.step);
  const auto momentum_at = [&](double step) {
    return attrs.beta1 * (1 - 0.5 * std::pow(0.96, step * group.momentum_decay));
  };
  const double now = momentum_at(t), next = momentum_at(t + 1);
  state.product *= now;
  attrs.lr = group.lr * (1 - now) / (1 - state.product);
  attrs.momentum = group.lr * next / (1 - state.product * next);
  Tensor changed[3] = {parameter, slot(state, 0, parameter), slot(state, 1, parameter)};
  run(OpId::nadam_step, attrs, grad, changed);
}

void Adamax::update(const Group& group, Tensor& parameter, const Tensor& grad, ParamState& state) {
  StepAttrs attrs = attrs_of(group);
  correct(attrs, state.step);
  Tensor changed[3] = {parameter, slot(state, 0, parameter), slot(state, 1, parameter)};
  run(OpId::adamax_step, attrs, grad, changed);
}

void RMSprop::update(const Group& group, Tensor& parameter, const Tensor& grad, ParamState& state) {
  StepAttrs attrs = attrs_of(group);
  attrs.beta2 = group.alpha;
  Tensor changed[4] = {parameter, slot(state, 0, parameter), {}, {}};
  if (group.momentum > 0) changed[2] = slot(state, 1, parameter);
  if (group.centered) changed[3] = slot(state, 2, parameter);
  run(OpId::rmsprop_step, attrs, grad, changed);
}

void Adagrad::update(const Group& group, Tensor& parameter, const Tensor& grad, ParamState& state) {
  StepAttrs attrs = attrs_of(group);
  attrs.lr = group.lr / (1 + static_cast<double>(state.step - 1) * group.lr_decay);
  Tensor changed[2] = {parameter, slot(state, 0, parameter, group.initial_value)};
  run(OpId::adagrad_step, attrs, grad, changed);
}

void Adadelta::update(const Group& group, Tensor& parameter, const Tensor& grad,
                      ParamState& state) {
  StepAttrs attrs = attrs_of(group);
  attrs.beta2 = group.rho;
  Tensor changed[3] = {parameter, slot(state, 0, parameter), slot(state, 1, parameter)};
  run(OpId::adadelta_step, attrs, grad, changed);
}

}  // namespace weft::inline v0::optim
