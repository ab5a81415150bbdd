// User-defined functions, and recomputation.
#include <weft/autograd/autograd.hpp>
#include <weft/autograd/graph.hpp>
#include <weft/core/base/check.hpp>
#include <weft/core/random.hpp>

namespace weft::inline v0 {

void FunctionContext::save_for_backward(std::vector<Tensor> tensors) {
  saved_ = std::move(tensors);
  versions_.clear();
  for (const Tensor& tensor : saved_) versions_.push_back(tensor.defined() ? tensor.version() : 0);
}

std::vector<Tensor> FunctionContext::saved_tensors() const {
  WEFT_CHECK(
      ArgumentError, !released_,
      "backward: what a function saved was freed by an earlier backward; pass retain_graph to "
      "that one to go through the graph twice");
  for (size_t i = 0; i < saved_.size(); ++i)
    WEFT_CHECK(ArgumentError, !saved_[i].defined() || saved_[i].version() == versions_[i],
               "backward: a function saved tensor {} of shape {}, which was changed in place later "
               "(version {}, now {}); save a clone() instead",
               i, to_string(saved_[i].shape()), versions_[i], saved_[i].version());
  return saved_;
}

/// What only the graph may do to a context.
struct FunctionAccess {
  /// A saved output would keep the node, and with it the context, alive for good.
  static void detach_outputs(FunctionContext& context, const std::vector<Tensor>& outputs) {
    for (Tensor& saved : context.saved_)
      for (const Tensor& output : outputs)
        if (saved.defined() && saved.is_same(output)) saved = saved.detach();
  }
  static void release(FunctionContext& context) {
    context.released_ = !context.saved_.empty();
    context.saved_.clear();
    context.versions_.clear();
  }
};

std::vector<Tensor> apply_function(
    const std::string& name,
    const std::function<std::vector<Tensor>(FunctionContext&, const std::vector<Tensor>&)>& forward,
    const std::function<std::vector<Tensor>(FunctionContext&, const std::vector<Tensor>&)>&
        backward,
    const std::vector<Tensor>& inputs) {
  auto context = std::make_shared<FunctionContext>();
  bool any_grad = false;
  for (const Tensor& input : inputs) any_grad |= input.defined() && input.requires_grad();
  std::vector<Tensor> outputs;
  {
    const NoGrad guard;
    outputs = forward(*context, inputs);
  }
  WEFT_CHECK(ArgumentError, !outputs.empty(), "{}: the function returned no tensor", name);
  for (Tensor& output : outputs)  // an input handed through must not become its own result
    for (const Tensor& input : inputs)
      if (output.is_same(input)) output = output.detach();
  if (!any_grad || !is_grad_enabled()) return outputs;
  FunctionAccess::detach_outputs(*context, outputs);
  detail::record_function(
      name, inputs, outputs,
      [context, backward](const std::vector<Tensor>& gradients) {
        return backward(*context, gradients);
      },
      [context] { FunctionAccess::release(*context); });
  return outputs;
}

namespace {

constinit thread_local Phase phase = Phase::forward;

class PhaseScope {
 public:
  explicit PhaseScope(Phase value) : previous_(std::exchange(phase, value)) {}
  ~PhaseScope() { phase = previous_; }
  PhaseScope(const PhaseScope&) = delete;
  PhaseScope& operator=(const PhaseScope&) = delete;

 private:
  Phase previous_;
};

/// Puts the random generator back where it was, for the scope's life.
class RandomScope {
 public:
  explicit RandomScope(PhiloxState state) : previous_(random_state()) { set_random_state(state); }
  ~RandomScope() { set_random_state(previous_); }
  RandomScope(const RandomScope&) = delete;
  RandomScope& operator=(const RandomScope&) = delete;

 private:
  PhiloxState previous_;
};

// Note [Recomputation]
// The forward pass packs every saved tensor into its number. The first number that backward unpacks
// runs the function again; that run's hooks keep the tensors in the same order, and so each number
// finds its tensor. The graph of the second run is only needed where the tensors themselves are
// differentiated (create_graph); otherwise it goes away with them.
struct CheckpointFrame {
  std::function<Tensor()> run;
  std::vector<Tensor> inputs;
  std::vector<uint32_t> versions;
  PhiloxState random;
  size_t count = 0;
  std::vector<Tensor> values;
  bool recomputed = false;

  void recompute() {
    for (size_t i = 0; i < inputs.size(); ++i)
      WEFT_CHECK(ArgumentError, inputs[i].version() == versions[i],
                 "checkpoint: input {} of shape {} was changed in place before it was recomputed "
                 "(version {}, now {}); change a clone() instead",
                 i, to_string(inputs[i].shape()), versions[i], inputs[i].version());
    const EnableGrad grad_on;
    const RandomScope random_scope(random);
    const PhaseScope phase_scope(Phase::recompute);
    {
      const SavedTensorHooks hooks(
          [this](const Tensor& tensor) -> std::shared_ptr<void> {
            values.push_back(tensor);
            return std::make_shared<Tensor>(tensor);
          },
          [](const std::shared_ptr<void>& value) {
            return *std::static_pointer_cast<Tensor>(value);
          });
      run();
    }
    WEFT_CHECK(
        ArgumentError, values.size() == count,
        "checkpoint: the recomputation saved {} tensors, the forward {}; the function must do "
        "the same both times",
        values.size(), count);
    recomputed = true;
  }
};

struct CheckpointSlot {
  std::shared_ptr<CheckpointFrame> frame;
  size_t number;
  Shape shape;
};

}  // namespace

Phase current_phase() { return phase; }

namespace detail {

Phase exchange_phase(Phase value) { return std::exchange(phase, value); }

Tensor checkpoint_call(const std::function<Tensor()>& run, const std::vector<Tensor>& inputs) {
  if (!is_grad_enabled()) return run();
  auto frame = std::make_shared<CheckpointFrame>();
  frame->run = run;
  frame->inputs = inputs;
  for (const Tensor& input : inputs) frame->versions.push_back(input.version());
  frame->random = random_state();
  const SavedTensorHooks hooks(
      [frame](const Tensor& tensor) -> std::shared_ptr<void> {
        return std::make_shared<CheckpointSlot>(
            CheckpointSlot{frame, frame->count++, tensor.shape()});
      },
      [](const std::shared_ptr<void>& packed) {
        const auto slot = std::static_pointer_cast<CheckpointSlot>(packed);
        if (!slot->frame->recomputed) slot->frame->recompute();
        const Tensor& value = slot->frame->values[slot->number];
        WEFT_CHECK(ArgumentError, value.shape() == slot->shape,
                   "checkpoint: the recomputation saved shape {} as tensor {}, the forward {}; the "
                   "function must do the same both times",
                   to_string(value.shape()), slot->number, to_string(slot->shape));
        return value;
      });
  return run();
}

}  // namespace detail

}  // namespace weft::inline v0
