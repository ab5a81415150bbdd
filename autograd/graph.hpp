// The nodes of the graph. Not for users: they see VjpContext (autograd/node.hpp).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <weft/autograd/saved.hpp>
#include <weft/core/op.hpp>

namespace weft::inline v0 {

/// Where the gradient of an input goes: to output `index` of a node, or to a leaf. Counted.
class Edge {
 public:
  Edge() = default;
  Edge(const Edge&) = delete;
  Edge& operator=(const Edge&) = delete;
  ~Edge() { reset(); }

  /// Towards whatever made `impl`; nothing where it does not require grad.
  void connect(TensorImpl* impl);
  void reset();

  Node* node = nullptr;
  TensorImpl* leaf = nullptr;
  uint16_t index = 0;
  explicit operator bool() const { return node != nullptr || leaf != nullptr; }
};

struct InputSlot {
  Edge edge;
  Shape shape;
  DType dtype = DType::f32;
  bool present = false;
  detail::SavedTensor saved;
};

struct OutputSlot {
  Shape shape;
  DType dtype = DType::f32;
  detail::SavedTensor saved;
  Tensor gradient;  ///< what backward has added up so far
};

using GradientHook = std::function<Tensor(const Tensor&)>;

/// Rare parts of a node, kept apart so that the common one stays small.
struct NodeExtras {
  std::string name;
  std::function<std::vector<Tensor>(const std::vector<Tensor>&)> backward;  ///< of user functions
  std::function<void()> release;                         ///< gives up what the user function saved
  std::vector<std::pair<uint16_t, GradientHook>> hooks;  ///< by output
};

/// A fixed list whose first few elements are part of the object.
template <class T, int kInline>
class InlineList {
 public:
  explicit InlineList(size_t size) : size_(size) {
    if (size > kInline) heap_ = std::make_unique<T[]>(size);
  }
  std::span<T> all() { return {heap_ ? heap_.get() : inline_, size_}; }
  std::span<const T> all() const { return {heap_ ? heap_.get() : inline_, size_}; }
  T& operator[](size_t i) { return heap_ ? heap_[i] : inline_[i]; }
  const T& operator[](size_t i) const { return heap_ ? heap_[i] : inline_[i]; }
  size_t size() const { return size_; }

 private:
  size_t size_;
  T inline_[kInline];
  std::unique_ptr<T[]> heap_;
};

/// One recorded call.
struct Node : GraphNode {
  Node(size_t input_count, size_t output_count) : inputs(input_count), outputs(output_count) {}

  OpId op = OpId::kCount;
  Device device;
  uint32_t dependencies = 0;  ///< edges of the running pass that still have to bring a gradient
  uint64_t pass = 0;          ///< the pass that `dependencies` belongs to
  uint64_t sequence = 0;      ///< rises with every recorded call
  Attrs attrs;
  InlineList<InputSlot, 3> inputs;
  InlineList<OutputSlot, 1> outputs;
  std::unique_ptr<NodeExtras> extras;

  const char* name() const;
  NodeExtras& make_extras() {
    if (!extras) extras = std::make_unique<NodeExtras>();
    return *extras;
  }
  static Node* create(size_t input_count, size_t output_count);
};

/// What a tensor that takes part in backward keeps: leaves their gradient, others what retain_grad
/// and hooks need.
struct LeafMeta : GradMeta {
  Tensor grad;
  std::shared_ptr<Tensor> retained;  ///< of a non-leaf; shared with its node's hook
  Tensor buffer;                     ///< where the gradient has to live, if somebody said so
  Tensor pending;                    ///< what the running pass has added up
  uint32_t dependencies = 0;
  uint64_t pass = 0;
  std::vector<GradientHook> hooks;
  std::vector<std::pair<uint64_t, std::function<void(const Tensor&)>>> after;  ///< by registration
};

namespace detail {

inline Node* node_of(const TensorImpl* impl) { return static_cast<Node*>(impl->node); }
/// The meta of `impl`, made where there is none.
LeafMeta& leaf_meta(TensorImpl* impl);
/// The meta of `impl`, or null.
inline LeafMeta* find_meta(const TensorImpl* impl) {
  return static_cast<LeafMeta*>(impl->grad_meta);
}
/// A handle to an impl that others own too.
Tensor share(TensorImpl* impl);
/// Appends a node for a call whose backward is `backward`; outputs become results of it.
void record_function(const std::string& name, std::span<const Tensor> inputs,
                     std::span<Tensor> outputs,
                     std::function<std::vector<Tensor>(const std::vector<Tensor>&)> backward,
                     std::function<void()> release = nullptr);
/// Sets current_phase() of this thread; returns the one before.
Phase exchange_phase(Phase value);
extern constinit thread_local bool detect_anomaly;
/// The hooks in force in this thread; empty where there are none.
std::vector<std::shared_ptr<HookPair>>& hook_stack();

struct EngineOptions {
  bool retain_graph = false;
  bool create_graph = false;
};
/// Runs a pass from `outputs` with `gradients`. With `inputs`, their gradients come back and no
/// leaf is touched; without, leaves accumulate.
std::vector<Tensor> run_backward(const std::vector<Tensor>& outputs,
                                 const std::vector<Tensor>& gradients,
                                 const std::vector<Tensor>* inputs, const EngineOptions& options);
/// `a + b`, in place into `a` where nobody else can see its memory and nothing is recorded.
Tensor accumulate(Tensor a, const Tensor& b, bool create_graph);
/// Whether the handle is the only one to its memory.
bool is_sole_owner(const Tensor& t);

}  // namespace detail

}  // namespace weft::inline v0
