// The backward pass: a ready queue by falling sequence number on the calling thread, so that the
// order of all sums, and with it the result, is always the same.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <exception>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include <weft/autograd/graph.hpp>
#include <weft/autograd/leaf.hpp>
#include <weft/autograd/node.hpp>
#include <weft/core/base/check.hpp>
#include <weft/core/ops.hpp>

namespace weft::inline v0 {

namespace detail {

constinit thread_local bool detect_anomaly = false;

bool is_sole_owner(const Tensor& t) {
  const TensorImpl* impl = t.impl();
  return impl->references.load(std::memory_order_relaxed) == 1 &&
         impl->storage->references.load(std::memory_order_relaxed) == 1 && impl->contiguous &&
         !(impl->storage->flags & (kReadOnly | kBorrowed));
}

Tensor accumulate(Tensor a, const Tensor& b, bool create_graph) {
  if (create_graph || !is_sole_owner(a) || a.dtype() != b.dtype()) return add(a, b);
  a.add_(b);
  return a;
}

namespace {

constinit std::atomic<uint64_t> pass_counter{0};

/// A pass of this thread; passes nest where a hook or a recomputation starts one.
struct Pass {
  uint64_t number = pass_counter.fetch_add(1) + 1;
  EngineOptions options;
  std::vector<Node*> ready;  ///< a heap, highest sequence first
  std::vector<std::function<void()>> callbacks;
  Pass* outer = nullptr;

  /// grad(): where the gradients of the inputs are collected.
  struct Wanted {
    const TensorImpl* impl;
    Tensor gradient;
  };
  std::vector<Wanted> wanted;
  bool collects = false;
  /// With `collects`: the nodes through which a wanted input is reached; others are not run.
  std::unordered_set<const Node*> needed;
};
constinit thread_local Pass* current_pass = nullptr;
constinit thread_local uint64_t last_pass = 0;

bool later(const Node* a, const Node* b) { return a->sequence < b->sequence; }

void push_ready(Pass& pass, Node* node) {
  pass.ready.push_back(node);
  std::push_heap(pass.ready.begin(), pass.ready.end(), later);
}

Node* pop_ready(Pass& pass) {
  std::pop_heap(pass.ready.begin(), pass.ready.end(), later);
  Node* node = pass.ready.back();
  pass.ready.pop_back();
  return node;
}

/// Whether a pass that this one runs inside of still waits for gradients there.
bool outer_waits(const Pass& pass, uint64_t owner, uint32_t dependencies) {
  if (dependencies == 0) return false;
  for (const Pass* outer = pass.outer; outer != nullptr; outer = outer->outer)
    if (outer->number == owner) return true;
  return false;
}

[[noreturn, gnu::cold]] void fail_nested(const char* what, const Shape& shape) {
  fail<ArgumentError>(
      "backward: a pass inside of another one (from a hook or a user function) reaches {} of shape "
      "{}, whose gradient the outer pass is still adding up; work on a detach() there",
      what, to_string(shape));
}

/// First visit of a node in this pass: forgets what an earlier pass left.
bool enter(Pass& pass, Node* node) {
  if (node->pass == pass.number) return false;
  if (outer_waits(pass, node->pass, node->dependencies)) [[unlikely]]
    fail_nested(node->name(), node->outputs[0].shape);
  node->pass = pass.number;
  node->dependencies = 0;
  for (OutputSlot& output : node->outputs.all()) output.gradient = Tensor();
  return true;
}

void enter_leaf(Pass& pass, const TensorImpl* leaf, LeafMeta& meta) {
  if (meta.pass == pass.number) return;
  if (outer_waits(pass, meta.pass, meta.dependencies)) [[unlikely]]
    fail_nested("a leaf", leaf->shape);
  meta.pass = pass.number;
  meta.dependencies = 0;
  meta.pending = Tensor();
}

/// Counts, for everything reachable, the edges that will bring a gradient.
void count_dependencies(Pass& pass, const std::vector<Tensor>& outputs) {
  std::vector<Node*> stack;
  for (const Tensor& output : outputs)
    if (Node* node = node_of(output.impl()); node != nullptr && enter(pass, node))
      stack.push_back(node);
  while (!stack.empty()) {
    Node* node = stack.back();
    stack.pop_back();
    for (const InputSlot& input : node->inputs.all()) {
      if (Node* next = input.edge.node) {
        if (enter(pass, next)) stack.push_back(next);
        ++next->dependencies;
      } else if (input.edge.leaf != nullptr) {
        LeafMeta& meta = leaf_meta(input.edge.leaf);
        enter_leaf(pass, input.edge.leaf, meta);
        ++meta.dependencies;
      }
    }
  }
}

/// Finds the nodes through which a wanted input is reached: those that use one, and all that use
/// these.
void find_needed(Pass& pass, const std::vector<Tensor>& outputs) {
  std::unordered_set<const TensorImpl*> leaves;
  std::unordered_set<const Node*> results;
  for (const Pass::Wanted& wanted : pass.wanted)
    if (const Node* node = node_of(wanted.impl))
      results.insert(node);
    else
      leaves.insert(wanted.impl);
  std::unordered_map<const Node*, std::vector<const Node*>> users;
  std::unordered_set<const Node*> seen;
  std::vector<const Node*> stack, direct;
  const auto visit = [&](const Node* node) {
    if (node != nullptr && seen.insert(node).second) stack.push_back(node);
  };
  for (const Tensor& output : outputs) visit(node_of(output.impl()));
  while (!stack.empty()) {
    const Node* node = stack.back();
    stack.pop_back();
    bool uses_wanted = false;
    for (const InputSlot& input : node->inputs.all()) {
      uses_wanted |= input.edge.leaf != nullptr && leaves.contains(input.edge.leaf);
      if (input.edge.node == nullptr) continue;
      uses_wanted |= results.contains(input.edge.node);
      users[input.edge.node].push_back(node);
      visit(input.edge.node);
    }
    if (uses_wanted) direct.push_back(node);
  }
  while (!direct.empty()) {
    const Node* node = direct.back();
    direct.pop_back();
    if (!pass.needed.insert(node).second) continue;
    for (const Node* user : users[node]) direct.push_back(user);
  }
}

/// Memory of its own for a gradient that becomes visible to the user.
Tensor own(Tensor gradient) {
  return is_sole_owner(gradient) ? gradient : gradient.detach().clone();
}

void store_in_leaf(Pass& pass, LeafMeta& meta, Tensor gradient) {
  if (pass.options.create_graph) {
    // Recorded, and in memory of its own: later passes add to it in place.
    meta.grad = meta.grad.defined() ? add(meta.grad, gradient) : gradient.clone();
    return;
  }
  if (meta.grad.defined()) {
    // Others may hold the handle that grad() gave them: it is updated in place, as PyTorch does.
    if (meta.grad.requires_grad())
      meta.grad = add(meta.grad, gradient);
    else
      meta.grad.add_(gradient);
    return;
  }
  if (meta.buffer.defined()) {
    meta.buffer.copy_(gradient);
    meta.grad = meta.buffer;
    return;
  }
  meta.grad = own(std::move(gradient));
}

void run_hooks(const std::vector<GradientHook>& live, Tensor& gradient) {
  const std::vector<GradientHook> hooks = live;  // a hook may register another one
  for (const GradientHook& hook : hooks)
    if (Tensor replaced = hook(gradient); replaced.defined()) gradient = std::move(replaced);
}

/// The leaf's gradient of this pass is complete.
void finish_leaf(Pass& pass, TensorImpl* leaf, LeafMeta& meta) {
  Tensor gradient = std::move(meta.pending);
  meta.pending = Tensor();
  if (!gradient.defined()) return;
  if (pass.collects) {
    for (Pass::Wanted& wanted : pass.wanted) {
      if (wanted.impl != leaf) continue;
      run_hooks(meta.hooks, gradient);
      wanted.gradient = gradient;
      break;
    }
    return;
  }
  run_hooks(meta.hooks, gradient);
  store_in_leaf(pass, meta, std::move(gradient));
  if (meta.after.empty()) return;
  const Tensor handle = share(leaf);
  const auto hooks = meta.after;  // a hook may remove itself
  for (const auto& [number, hook] : hooks) hook(handle);
}

void add_gradient(Pass& pass, Tensor& slot, Tensor gradient) {
  if (!slot.defined())
    slot = std::move(gradient);
  else
    slot = accumulate(std::move(slot), gradient, pass.options.create_graph);
}

/// Brings a gradient (or the news that there is none) along an edge.
void deliver(Pass& pass, const Edge& edge, Tensor gradient) {
  if (edge.node != nullptr) {
    Node* node = edge.node;
    if (gradient.defined())
      add_gradient(pass, node->outputs[edge.index].gradient, std::move(gradient));
    if (--node->dependencies == 0) push_ready(pass, node);
  } else if (edge.leaf != nullptr) {
    LeafMeta& meta = leaf_meta(edge.leaf);
    if (gradient.defined()) add_gradient(pass, meta.pending, std::move(gradient));
    if (--meta.dependencies == 0) finish_leaf(pass, edge.leaf, meta);
  }
}

void check_for_nan(const Node& node, std::span<const Tensor> results) {
  for (size_t i = 0; i < results.size(); ++i) {
    if (!results[i].defined() || !is_floating(results[i].dtype()) || results[i].device().is_meta())
      continue;
    const bool bad = any(isnan(results[i].detach())).item<bool>();
    WEFT_CHECK(ArgumentError, !bad,
               "backward: {} gave NaN as the gradient of its input {} of shape {}", node.name(), i,
               to_string(node.inputs[i].shape));
  }
}

void run_user_function(Node& node, std::span<const Tensor> gradients, std::span<Tensor> results) {
  std::vector<Tensor> filled(gradients.begin(), gradients.end());
  for (size_t i = 0; i < filled.size(); ++i)
    if (!filled[i].defined())
      filled[i] =
          zeros(node.outputs[i].shape, {.dtype = node.outputs[i].dtype, .device = node.device});
  std::vector<Tensor> given = node.extras->backward(filled);
  WEFT_CHECK(ArgumentError, given.size() == results.size(),
             "backward: {} returned {} gradients for {} inputs", node.name(), given.size(),
             results.size());
  VjpContext context(node, gradients, results);
  for (size_t i = 0; i < results.size(); ++i)
    if (given[i].defined() && context.needs(static_cast<int>(i)))
      context.set(static_cast<int>(i), std::move(given[i]));
}

void run_hooks_of(Node& node) {
  const auto hooks = node.extras->hooks;  // a hook may register another one
  for (const auto& [index, hook] : hooks) {
    Tensor& gradient = node.outputs[index].gradient;
    if (!gradient.defined()) continue;
    if (Tensor replaced = hook(gradient); replaced.defined()) gradient = std::move(replaced);
  }
}

bool makes_wanted(const Pass& pass, const Node& node) {
  return std::any_of(pass.wanted.begin(), pass.wanted.end(),
                     [&node](const Pass::Wanted& wanted) { return node_of(wanted.impl) == &node; });
}

void collect_wanted(Pass& pass, Node& node) {
  for (Pass::Wanted& wanted : pass.wanted)
    if (node_of(wanted.impl) == &node)
      wanted.gradient = node.outputs[wanted.impl->output_index].gradient;
}

void run_node(Pass& pass, Node& node) {
  // Beside the way to the wanted inputs nothing runs, and nothing that was saved is given up.
  const bool idle = pass.collects && !pass.needed.contains(&node);
  const bool has_hooks = node.extras && !node.extras->hooks.empty();
  if (has_hooks && (!idle || makes_wanted(pass, node))) run_hooks_of(node);
  if (pass.collects) collect_wanted(pass, node);
  InlineList<Tensor, 2> gradients(node.outputs.size());
  bool any_gradient = false;
  for (size_t i = 0; i < node.outputs.size(); ++i) {
    gradients[i] = std::move(node.outputs[i].gradient);
    any_gradient |= gradients[i].defined();
  }
  any_gradient &= !idle;
  InlineList<Tensor, 3> results(node.inputs.size());
  if (any_gradient) {
    if (node.extras && node.extras->backward) {
      run_user_function(node, gradients.all(), results.all());
    } else {
      const OpInfo& info = op_info(node.op);
      WEFT_CHECK(ArgumentError, !(pass.options.create_graph && (info.traits & kNoSecond)),
                 "backward: {} has no second derivative; leave create_graph out or use another op",
                 info.name);
      VjpContext context(node, gradients.all(), results.all());
      info.vjp(context);
    }
    if (detect_anomaly) check_for_nan(node, results.all());
  }
  if (!pass.options.retain_graph && !idle) {
    for (InputSlot& input : node.inputs.all())
      if (input.saved.is_saved()) input.saved.release();
    for (OutputSlot& output : node.outputs.all())
      if (output.saved.is_saved()) output.saved.release();
  }
  for (size_t i = 0; i < node.inputs.size(); ++i)
    if (node.inputs[i].edge) deliver(pass, node.inputs[i].edge, std::move(results[i]));
}

/// Restores the thread's state, however the pass ends.
class PassScope {
 public:
  explicit PassScope(Pass& pass)
      : pass_(pass), flags_(thread_flags), phase_(exchange_phase(Phase::backward)) {
    pass.outer = current_pass;
    current_pass = &pass;
    thread_flags &= ~(kSavedTensorHooks | kGradEnabled | kAutocast);
    if (pass.options.create_graph) thread_flags |= kGradEnabled;
  }
  ~PassScope() {
    current_pass = pass_.outer;
    last_pass = pass_.number;
    thread_flags = flags_;
    exchange_phase(phase_);
  }
  PassScope(const PassScope&) = delete;
  PassScope& operator=(const PassScope&) = delete;

 private:
  Pass& pass_;
  uint32_t flags_;
  Phase phase_;
};

Tensor initial_gradient(const Tensor& output, const Tensor& given) {
  if (!given.defined()) {
    WEFT_CHECK(
        ArgumentError, output.numel() == 1,
        "backward: an output of shape {} needs its gradient given; only a single element has 1 "
        "as default (call sum() or mean() first?)",
        to_string(output.shape()));
    return ones(output.shape(), {.dtype = output.dtype(), .device = output.device()});
  }
  WEFT_CHECK(ArgumentError, given.shape() == output.shape(),
             "backward: the gradient has shape {}, the output {}", to_string(given.shape()),
             to_string(output.shape()));
  WEFT_CHECK(ArgumentError, given.dtype() == output.dtype(),
             "backward: the gradient is {}, the output {}", name_of(given.dtype()),
             name_of(output.dtype()));
  WEFT_CHECK(DeviceError, given.device() == output.device(),
             "backward: the gradient is on {}, the output on {}", to_string(given.device()),
             to_string(output.device()));
  return given;
}

void start(Pass& pass, const std::vector<Tensor>& outputs, const std::vector<Tensor>& gradients) {
  for (size_t i = 0; i < outputs.size(); ++i) {
    TensorImpl* impl = outputs[i].checked();
    WEFT_CHECK(
        ArgumentError, impl->requires_grad,
        "backward: output {} of shape {} does not require grad: nothing that it was made from "
        "does, or it was made under NoGrad",
        i, to_string(impl->shape));
    Tensor gradient = initial_gradient(outputs[i], i < gradients.size() ? gradients[i] : Tensor());
    if (Node* node = node_of(impl)) {
      add_gradient(pass, node->outputs[impl->output_index].gradient, std::move(gradient));
    } else {
      LeafMeta& meta = leaf_meta(impl);
      enter_leaf(pass, impl, meta);
      add_gradient(pass, meta.pending, std::move(gradient));
    }
  }
  for (const Tensor& output : outputs) {
    Node* node = node_of(output.impl());
    if (node == nullptr) {
      LeafMeta& meta = leaf_meta(output.impl());
      if (meta.dependencies == 0) finish_leaf(pass, output.impl(), meta);
    } else if (node->dependencies == 0 &&
               std::find(pass.ready.begin(), pass.ready.end(), node) == pass.ready.end()) {
      push_ready(pass, node);
    }
  }
}

void finish(Pass& pass) {
  while (!pass.callbacks.empty()) {  // a callback may queue another one
    const auto callbacks = std::exchange(pass.callbacks, {});
    for (const auto& callback : callbacks) callback();
  }
}

}  // namespace

std::vector<Tensor> run_backward(const std::vector<Tensor>& outputs,
                                 const std::vector<Tensor>& gradients,
                                 const std::vector<Tensor>* inputs, const EngineOptions& options) {
  for (const Tensor& output : outputs) output.checked();
  WEFT_CHECK(ArgumentError, gradients.empty() || gradients.size() == outputs.size(),
             "backward: {} gradients for {} outputs; give one each, or none", gradients.size(),
             outputs.size());
  Pass pass;
  pass.options = options;
  pass.collects = inputs != nullptr;
  if (inputs != nullptr)
    for (const Tensor& input : *inputs) pass.wanted.push_back({input.checked(), Tensor()});
  const PassScope scope(pass);
  count_dependencies(pass, outputs);
  if (pass.collects) find_needed(pass, outputs);
  start(pass, outputs, gradients);
  while (!pass.ready.empty()) run_node(pass, *pop_ready(pass));
  finish(pass);
  std::vector<Tensor> results;
  for (Pass::Wanted& wanted : pass.wanted) results.push_back(std::move(wanted.gradient));
  return results;
}

bool reached_in_last_pass(const LeafMeta& meta) {
  return meta.pass == (current_pass != nullptr ? current_pass->number : last_pass);
}

}  // namespace detail

void queue_callback(std::function<void()> callback) {
  WEFT_CHECK(ArgumentError, detail::current_pass != nullptr,
             "queue_callback: no backward is running in this thread");
  detail::current_pass->callbacks.push_back(std::move(callback));
}

bool reached_by_backward(const Tensor& leaf) {
  const LeafMeta* meta = detail::find_meta(leaf.checked());
  return meta != nullptr && detail::reached_in_last_pass(*meta);
}

}  // namespace weft::inline v0
