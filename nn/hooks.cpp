#include <weft/nn/hooks.hpp>

#include <algorithm>

#include <weft/nn/hook_list.hpp>
#include <weft/nn/layer.hpp>

namespace weft::inline v0::nn {

// Note [Hooks of a unit]
// A unit's backward begins when the gradients of its results are known and ends when those of its
// inputs are. To be told, the call puts one identity node over its results and one over the inputs
// that require grad: the engine runs nodes by falling sequence, so that of the inputs comes behind
// all nodes of the unit. Where no input requires grad (the first unit gets token numbers), or the
// results do not depend on them, nothing marks the end, so every start also queues a callback for
// the end of the whole pass. Recomputation (checkpointing) builds a graph that nobody walks: it
// gets the forward hooks with their phase, and no nodes.

namespace detail {

HookHandle add_hooks(Module& module, std::shared_ptr<HookList>& list, UnitHooks hooks) {
  if (list == nullptr) list = std::make_shared<HookList>(HookList{&module, 0, {}});
  list->entries.push_back(
      std::make_shared<HookEntry>(HookEntry{++list->last_id, std::move(hooks)}));
  return HookHandle(list, list->last_id);
}

struct HookedCall::State {
  Module* module = nullptr;      ///< for the call itself
  std::weak_ptr<HookList> list;  ///< tells backward whether the module is still there
  std::vector<std::shared_ptr<HookEntry>> hooks;  ///< those of the call's start
  Phase phase = Phase::forward;
  bool in_backward = false;

  /// Runs `member` of every hook; nothing where the module is gone.
  void run(UnitHooks::Backward UnitHooks::*member, bool reverse) {
    const std::shared_ptr<HookList> alive = list.lock();
    if (alive == nullptr) return;
    for (size_t i = 0; i < hooks.size(); ++i) {
      const HookEntry& entry = *hooks[reverse ? hooks.size() - 1 - i : i];
      if (!entry.removed && entry.hooks.*member) (entry.hooks.*member)(*module);
    }
  }
  bool wants_backward() const {
    return phase == Phase::forward && is_grad_enabled() &&
           std::any_of(hooks.begin(), hooks.end(), [](const auto& entry) {
             return entry->hooks.pre_backward || entry->hooks.post_backward;
           });
  }
  void finish_backward() {
    if (!in_backward) return;
    in_backward = false;
    run(&UnitHooks::post_backward, true);
  }
};

namespace {

/// Replaces the tensors that require grad by copies of their handles behind one node, whose
/// backward calls `reached` and hands the gradients on.
void put_node(const char* name, CallTensors tensors, const std::function<void()>& reached) {
  std::vector<Tensor*> places;
  std::vector<Tensor> inputs;
  for (Tensor* tensor : tensors)
    if (tensor->defined() && tensor->requires_grad()) {
      places.push_back(tensor);
      inputs.push_back(*tensor);
    }
  if (inputs.empty()) return;
  const auto identity = [](FunctionContext&, const std::vector<Tensor>& values) {
    std::vector<Tensor> same;
    for (const Tensor& value : values) same.push_back(value.detach());
    return same;
  };
  const auto backward = [reached](FunctionContext&, const std::vector<Tensor>& grads) {
    reached();
    return grads;
  };
  std::vector<Tensor> outputs = apply_function(name, identity, backward, inputs);
  for (size_t i = 0; i < places.size(); ++i) *places[i] = std::move(outputs[i]);
}

}  // namespace

HookedCall::HookedCall(Module& module) : state_(std::make_shared<State>()) {
  state_->module = &module;
  state_->list = module.hooks();
  state_->hooks = module.hooks()->entries;
  state_->phase = current_phase();
}

HookedCall::~HookedCall() = default;

void HookedCall::before(CallTensors inputs) {
  for (const auto& entry : state_->hooks)
    if (!entry->removed && entry->hooks.pre_forward)
      entry->hooks.pre_forward(*state_->module, state_->phase, inputs);
  if (state_->wants_backward())
    put_node("unit_inputs", inputs, [state = state_] { state->finish_backward(); });
}

void HookedCall::after(CallTensors outputs) {
  if (state_->wants_backward())
    put_node("unit_outputs", outputs, [state = state_] {
      state->in_backward = true;
      state->run(&UnitHooks::pre_backward, false);
      queue_callback([state] { state->finish_backward(); });
    });
  for (size_t i = state_->hooks.size(); i-- > 0;)
    if (!state_->hooks[i]->removed && state_->hooks[i]->hooks.post_forward)
      state_->hooks[i]->hooks.post_forward(*state_->module, state_->phase, outputs);
}

void HookedCall::failed() noexcept { state_->run(&UnitHooks::failed, true); }

}  // namespace detail

void HookHandle::remove() {
  const std::shared_ptr<detail::HookList> list = list_.lock();
  list_.reset();
  if (list == nullptr) return;
  std::erase_if(list->entries, [this](const auto& entry) {
    entry->removed |= entry->id == id_;
    return entry->removed;
  });
  list->module->drop_empty_hooks();
}

}  // namespace weft::inline v0::nn
