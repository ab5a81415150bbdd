// What all optimizers share: parameter groups, states, saving and loading.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <weft/core/io/state_dict.hpp>
#include <weft/core/op.hpp>
#include <weft/core/optim_attrs.hpp>
#include <weft/core/tensor.hpp>

namespace weft::inline v0::optim {

/// Parameters with numbers of their own; what is left out is the optimizer's.
///
///     optim::AdamW optimizer({{.params = decayed, .weight_decay = 0.1}, {.params = rest}}, {.lr =
///     1e-3});
struct ParamGroup {
  std::vector<Tensor> params;
  std::optional<double> lr = {};
  std::optional<double> weight_decay = {};
  std::optional<double> momentum = {};
  std::optional<std::pair<double, double>> betas = {};
  std::optional<double> eps = {};
};

/// A group as the optimizer uses it. Schedules change `lr`; any number may be changed between
/// steps.
struct Group {
  std::vector<Tensor> params = {};
  double lr = 1e-3;
  double initial_lr = -1;  ///< what schedules start from; set by the first one
  double weight_decay = 0;
  double momentum = 0;
  double dampening = 0;
  std::pair<double, double> betas = {0.9, 0.999};
  double eps = 1e-8;
  double alpha = 0.99;           ///< RMSprop
  double rho = 0.9;              ///< Adadelta
  double lr_decay = 0;           ///< Adagrad
  double initial_value = 0;      ///< Adagrad: of the sums
  double momentum_decay = 4e-3;  ///< NAdam
  bool decoupled = false;
  bool nesterov = false;
  bool amsgrad = false;
  bool centered = false;
  bool maximize = false;
};

/// What an optimizer keeps for one parameter: in f32 (f64 for f64 parameters), made at its first
/// step.
struct ParamState {
  int64_t step = 0;
  double product = 1;                ///< NAdam: of the momenta so far
  std::array<Tensor, 3> slots = {};  ///< by the optimizer's slot names; undefined where unused
};

/// Base of the optimizers. step() changes every parameter that has a gradient, in one fused pass
/// each, unrecorded. Not copyable: the parameters are the model's.
class WEFT_API Optimizer {
 public:
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;
  virtual ~Optimizer();

  /// Throws ArgumentError for a gradient of another dtype than the parameter's (f32 is accepted for
  /// 16-bit parameters) and for parameters that are not packed.
  void step();
  /// Drops the gradients, or fills them with zeros.
  void zero_grad(bool set_to_none = true);

  std::vector<Group>& groups() { return groups_; }
  const std::vector<Group>& groups() const { return groups_; }
  /// Throws ArgumentError for a parameter that is in a group already, that is no leaf or not of a
  /// floating-point dtype, and for an empty group.
  void add_param_group(const ParamGroup& group);
  const char* name() const { return name_; }

  /// Steps and states by the parameter's number ("state.0.exp_avg", "state.0.step") and the groups'
  /// numbers ("param_groups.0.lr"): tensors all, for safetensors.
  StateDict state_dict() const;
  /// The reverse. Throws ArgumentError that lists every key that is unknown, missing or of another
  /// shape; the optimizer is then unchanged.
  void load_state_dict(const StateDict& source);
  /// State number i (numbered over all groups), for those who shard or move it.
  ParamState& state(size_t i) { return states_.at(i); }
  /// Names of a ParamState's slots, such as "exp_avg".
  const std::vector<std::string>& slot_names() const { return slot_names_; }

  /// While `gate` returns false, step() and zero_grad() do nothing, and neither do schedules of
  /// this optimizer: how gradients are accumulated. An empty function takes it away.
  void set_gate(std::function<bool()> gate) { gate_ = std::move(gate); }
  const std::function<bool()>& gate() const { return gate_; }
  bool is_open() const { return !gate_ || gate_(); }

 protected:
  Optimizer(const char* name, std::vector<std::string> slot_names, Group defaults,
            const std::vector<ParamGroup>& groups);
  /// One parameter's step: `state.step` is raised already.
  virtual void update(const Group& group, Tensor& parameter, const Tensor& grad,
                      ParamState& state) = 0;
  /// Slot i, made of `value` where it is not there, moved where the parameter was moved.
  Tensor& slot(ParamState& state, size_t i, const Tensor& parameter, double value = 0) const;
  static StepAttrs attrs_of(const Group& group);
  static void run(OpId op, const StepAttrs& attrs, const Tensor& grad, std::span<Tensor> changed);

 private:
  void check_params(const ParamGroup& group) const;
  void step_param(const Group& group, Tensor& parameter, ParamState& state);

  const char* name_;
  std::vector<std::string> slot_names_;
  Group defaults_;
  std::vector<Group> groups_;
  std::vector<ParamState> states_;
  std::function<bool()> gate_;
};

}  // namespace weft::inline v0::optim
