#include <weft/nn/optim/optimizer.hpp>

#include <fmt/format.h>

#include <map>
#include <set>

#include <weft/autograd/autograd.hpp>
#include <weft/core/base/check.hpp>
#include <weft/core/ops.hpp>

namespace weft::inline v0::optim {

Optimizer::~Optimizer() = default;

Optimizer::Optimizer(const char* name, std::vector<std::string> slot_names, Group defaults,
                     const std::vector<ParamGroup>& groups)
    : name_(name), slot_names_(std::move(slot_names)), defaults_(std::move(defaults)) {
  WEFT_CHECK(ArgumentError, !groups.empty(), "{}: no parameters to optimize", name_);
  for (const ParamGroup& group : groups) add_param_group(group);
}

namespace {

void check_number(const char* name, const char* what, double value, bool fits, const char* range) {
  WEFT_CHECK(ArgumentError, fits, "{}: {} is {}; it must be {}", name, what, value, range);
}

void check_group(const char* name, const Group& g) {
  check_number(name, "lr", g.lr, g.lr >= 0, "at least 0");
  check_number(name, "weight_decay", g.weight_decay, g.weight_decay >= 0, "at least 0");
  check_number(name, "momentum", g.momentum, g.momentum >= 0, "at least 0");
  check_number(name, "eps", g.eps, g.eps >= 0, "at least 0");
  const auto fraction = [](double x) { return x >= 0 && x < 1; };
  check_number(name, "betas.first", g.betas.first, fraction(g.betas.first), "in [0, 1)");
  check_number(name, "betas.second", g.betas.second, fraction(g.betas.second), "in [0, 1)");
  check_number(name, "alpha", g.alpha, g.alpha >= 0, "at least 0");
  check_number(name, "rho", g.rho, g.rho >= 0 && g.rho <= 1, "in [0, 1]");
  check_number(name, "lr_decay", g.lr_decay, g.lr_decay >= 0, "at least 0");
  check_number(name, "initial_accumulator_value", g.initial_value, g.initial_value >= 0,
               "at least 0");
  check_number(name, "momentum_decay", g.momentum_decay, g.momentum_decay >= 0, "at least 0");
  WEFT_CHECK(ArgumentError, !g.nesterov || (g.momentum > 0 && g.dampening == 0),
             "{}: nesterov needs momentum above 0 and no dampening, got momentum {} and dampening "
             "{}",
             name, g.momentum, g.dampening);
}

}  // namespace

void Optimizer::check_params(const ParamGroup& group) const {
  WEFT_CHECK(ArgumentError, !group.params.empty(), "{}: no parameters to optimize", name_);
  std::set<const TensorImpl*> known;
  for (const Group& other : groups_)
    for (const Tensor& parameter : other.params) known.insert(parameter.impl());
  for (size_t i = 0; i < group.params.size(); ++i) {
    const Tensor& parameter = group.params[i];
    WEFT_CHECK(ArgumentError, parameter.is_leaf(),
               "{}: parameter {} of shape {} is the result of an op; only leaves can be optimized",
               name_, i, to_string(parameter.shape()));
    WEFT_CHECK(ArgumentError, parameter.is_floating_point(),
               "{}: parameter {} of shape {} is {}; only floating-point tensors can be optimized",
               name_, i, to_string(parameter.shape()), name_of(parameter.dtype()));
    WEFT_CHECK(ArgumentError, known.insert(parameter.impl()).second,
               "{}: parameter {} of shape {} is given twice", name_, i,
               to_string(parameter.shape()));
  }
}

void Optimizer::add_param_group(const ParamGroup& given) {
  check_params(given);
  Group group = defaults_;
  group.params = given.params;
  group.lr = given.lr.value_or(group.lr);
  group.weight_decay = given.weight_decay.value_or(group.weight_decay);
  group.momentum = given.momentum.value_or(group.momentum);
  group.betas = given.betas.value_or(group.betas);
  group.eps = given.eps.value_or(group.eps);
  check_group(name_, group);
  states_.resize(states_.size() + group.params.size());
  groups_.push_back(std::move(group));
}

void Optimizer::step() {
  if (!is_open()) return;
  const NoGrad guard;
  size_t index = 0;
  for (const Group& group : groups_)
    for (Tensor parameter : group.params) step_param(group, parameter, states_[index++]);
}

void Optimizer::step_param(const Group& group, Tensor& parameter, ParamState& state) {
  const Tensor grad = parameter.grad();
  if (!grad.defined()) return;
  const bool wide = grad.dtype() == DType::f32 && size_of(parameter.dtype()) == 2;
  WEFT_CHECK(ArgumentError, grad.dtype() == parameter.dtype() || wide,
             "{}: the gradient of a {} parameter of shape {} is {}", name_,
             name_of(parameter.dtype()), to_string(parameter.shape()), name_of(grad.dtype()));
  ++state.step;
  update(group, parameter, grad.detach().contiguous(), state);
}

void Optimizer::zero_grad(bool set_to_none) {
  if (!is_open()) return;
  for (const Group& group : groups_)
    for (const Tensor& parameter : group.params) {
      const Tensor grad = parameter.grad();
      if (!grad.defined()) continue;
      if (set_to_none)
        parameter.set_grad(Tensor());
      else
        parameter.set_grad(zeros_like(grad.detach()));
    }
}

Tensor& Optimizer::slot(ParamState& state, size_t i, const Tensor& parameter, double value) const {
  Tensor& tensor = state.slots[i];
  const DType dtype = parameter.dtype() == DType::f64 ? DType::f64 : DType::f32;
  if (!tensor.defined())
    tensor = full(parameter.shape(), value, {.dtype = dtype, .device = parameter.device()});
  else if (!(tensor.device() == parameter.device()) || tensor.dtype() != dtype)
    tensor = tensor.to(parameter.device(), dtype).contiguous();
  return tensor;
}

StepAttrs Optimizer::attrs_of(const Group& group) {
  StepAttrs attrs;
  attrs.lr = group.lr;
  attrs.weight_decay = group.weight_decay;
  attrs.momentum = group.momentum;
  attrs.dampening = group.dampening;
  attrs.beta1 = group.betas.first;
  attrs.beta2 = group.betas.second;
  attrs.eps = group.eps;
  attrs.decoupled = group.decoupled;
  attrs.nesterov = group.nesterov;
  attrs.maximize = group.maximize;
  return attrs;
}

void Optimizer::run(OpId op, const StepAttrs& attrs, const Tensor& grad,
                    std::span<Tensor> changed) {
  const TensorRef refs[] = {grad.checked()};
  dispatch_update(op, Attrs(attrs), refs, changed);
}

namespace {

// The numbers of a group that are saved; dtypes of truth values are f64 too, 0 or 1.
struct Number {
  const char* key;
  double (*get)(const Group&);
  void (*set)(Group&, double);
};
#define WEFT_NUMBER(name)                                                                        \
  {                                                                                              \
#name,                                                                                       \
        [](const Group& g)                                                                       \
             -> double { return g.name; },                                                       \
                                        [](Group & g,                                            \
                                           double                                                \
                                               v) { g.name = static_cast<decltype(g.name)>(v); } \
  }
constexpr Number kNumbers[] = {WEFT_NUMBER(lr),
                               WEFT_NUMBER(initial_lr),
                               WEFT_NUMBER(weight_decay),
                               WEFT_NUMBER(momentum),
                               WEFT_NUMBER(dampening),
                               {"beta1", [](const Group& g) { return g.betas.first; },
                                [](Group& g, double v) { g.betas.first = v; }},
                               {"beta2", [](const Group& g) { return g.betas.second; },
                                [](Group& g, double v) { g.betas.second = v; }},
                               WEFT_NUMBER(eps),
                               WEFT_NUMBER(alpha),
                               WEFT_NUMBER(rho),
                               WEFT_NUMBER(lr_decay),
                               WEFT_NUMBER(momentum_decay)};
#undef WEFT_NUMBER

template <class T>
Tensor scalar(T value) {
  return from_host(&value, {}, dtype_of<T>);
}

}  // namespace

StateDict Optimizer::state_dict() const {
  StateDict dict;
  for (size_t i = 0; i < states_.size(); ++i) {
    const ParamState& state = states_[i];
    if (state.step == 0) continue;
    const std::string prefix = fmt::format("state.{}.", i);
    dict.emplace_back(prefix + "step", scalar<int64_t>(state.step));
    if (state.product != 1) dict.emplace_back(prefix + "mu_product", scalar<double>(state.product));
    for (size_t k = 0; k < slot_names_.size(); ++k)
      if (state.slots[k].defined()) dict.emplace_back(prefix + slot_names_[k], state.slots[k]);
  }
  for (size_t i = 0; i < groups_.size(); ++i)
    for (const Number& number : kNumbers)
      dict.emplace_back(fmt::format("param_groups.{}.{}", i, number.key),
                        scalar<double>(number.get(groups_[i])));
  return dict;
}

void Optimizer::load_state_dict(const StateDict& source) {
  std::map<std::string, const Tensor*> given;
  for (const auto& [key, tensor] : source) given[key] = &tensor;
  std::vector<std::string> problems;
  const auto take = [&](const std::string& key, const Shape& shape) -> const Tensor* {
    const auto found = given.find(key);
    if (found == given.end()) return nullptr;
    const Tensor* tensor = found->second;
    given.erase(found);
    if (tensor->shape() == shape) return tensor;
    problems.push_back(
        fmt::format("{} is {}, not {}", key, to_string(tensor->shape()), to_string(shape)));
    return nullptr;
  };
  const NoGrad guard;
  std::vector<ParamState> states(states_.size());
  size_t index = 0;
  for (const Group& group : groups_)
    for (const Tensor& parameter : group.params) {
      ParamState& state = states[index];
      const std::string prefix = fmt::format("state.{}.", index++);
      if (const Tensor* step = take(prefix + "step", {})) state.step = step->item<int64_t>();
      if (const Tensor* product = take(prefix + "mu_product", {}))
        state.product = product->item<double>();
      for (size_t k = 0; k < slot_names_.size(); ++k)
        if (const Tensor* saved = take(prefix + slot_names_[k], parameter.shape()))
          slot(state, k, parameter).copy_(saved->to(parameter.device()));
    }
  std::vector<Group> groups = groups_;
  for (size_t i = 0; i < groups.size(); ++i)
    for (const Number& number : kNumbers) {
      const std::string key = fmt::format("param_groups.{}.{}", i, number.key);
      if (const Tensor* saved = take(key, {}))
        number.set(groups[i], saved->item<double>());
      else
        problems.push_back(key + " is missing");
    }
  for (const auto& [key, tensor] : given) problems.push_back(key + " is unknown");
  WEFT_CHECK(ArgumentError, problems.empty(),
             "{}: load_state_dict: the state of another optimizer or model: {}", name_,
             fmt::join(problems, "; "));
  states_ = std::move(states);
  groups_ = std::move(groups);
}

}  // namespace weft::inline v0::optim
