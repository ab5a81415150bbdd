// Recording: a node for each call, edges to what made its inputs, and what its formula needs.
#include <atomic>
#include <new>

#include <weft/autograd/graph.hpp>
#include <weft/core/base/check.hpp>
#include <weft/core/pool.hpp>

namespace weft::inline v0 {

namespace detail {

namespace {

constinit std::atomic<uint64_t> sequence_blocks{1};
constexpr uint64_t kBlock = uint64_t{1} << 20;
struct SequenceRange {
  uint64_t next = 0, end = 0;
};
constinit thread_local SequenceRange sequence_range;

/// Numbers rise within a thread; a locked instruction is needed once in a million.
uint64_t next_sequence() {
  SequenceRange& range = sequence_range;
  if (range.next == range.end) [[unlikely]] {
    range.next = sequence_blocks.fetch_add(1) * kBlock;
    range.end = range.next + kBlock;
  }
  return range.next++;
}

// Note [Iterative destruction]
// The last handle to a long chain frees its last node, which frees the one before, and so on: done
// by recursion, 100,000 nodes would end the stack. Nodes whose count falls to zero while another
// one is being destroyed are put into a list instead, linked through their own memory.
constinit thread_local GraphNode* dead_nodes = nullptr;
constinit thread_local bool destroying = false;

static_assert(sizeof(Node) <= kPoolLimit);

void free_node(Node* node) noexcept {
  node->~Node();
  pool_free(node, sizeof(Node));
}

void destroy_node(GraphNode* graph_node) noexcept {
  auto* node = static_cast<Node*>(graph_node);
  if (destroying) {
    node->sequence = reinterpret_cast<uint64_t>(dead_nodes);
    dead_nodes = node;
    return;
  }
  destroying = true;
  free_node(node);
  while (dead_nodes != nullptr) {
    auto* next = static_cast<Node*>(dead_nodes);
    dead_nodes = reinterpret_cast<GraphNode*>(next->sequence);
    free_node(next);
  }
  destroying = false;
}

}  // namespace

Tensor share(TensorImpl* impl) {
  impl->references.fetch_add(1, std::memory_order_relaxed);
  return Tensor(impl);
}

std::string node_name(const GraphNode* node) {
  std::string name;
  bool starts_word = true;
  for (const char* c = static_cast<const Node*>(node)->name(); *c != '\0'; ++c) {
    if (*c != '_')
      name += starts_word && *c >= 'a' && *c <= 'z' ? static_cast<char>(*c - 'a' + 'A') : *c;
    starts_word = *c == '_';
  }
  return name;
}

LeafMeta& leaf_meta(TensorImpl* impl) {
  if (impl->grad_meta == nullptr) impl->grad_meta = std::make_unique<LeafMeta>().release();
  return *static_cast<LeafMeta*>(impl->grad_meta);
}

}  // namespace detail

void Edge::connect(TensorImpl* impl) {
  if (!impl->requires_grad) return;
  if (impl->node != nullptr) {
    node = static_cast<Node*>(impl->node);
    index = impl->output_index;
    node->references.fetch_add(1, std::memory_order_relaxed);
  } else {
    leaf = impl;
    leaf->references.fetch_add(1, std::memory_order_relaxed);
  }
}

void Edge::reset() {
  if (node != nullptr && node->references.fetch_sub(1, std::memory_order_acq_rel) == 1)
    node->destroy(node);
  if (leaf != nullptr && leaf->references.fetch_sub(1, std::memory_order_acq_rel) == 1)
    TensorImpl::destroy(leaf);
  node = nullptr;
  leaf = nullptr;
}

Node* Node::create(size_t input_count, size_t output_count) {
  void* memory = detail::pool_allocate(sizeof(Node));
  auto* node = ::new (memory) Node(input_count, output_count);
  node->destroy = detail::destroy_node;
  node->sequence = detail::next_sequence();
  return node;
}

const char* Node::name() const {
  return extras && extras->backward ? extras->name.c_str() : op_info(op).name;
}

namespace detail {

namespace {

/// The first reference to a node, given up however its making ends (a pack hook may throw).
class FirstReference {
 public:
  explicit FirstReference(Node* node) : node_(node) {}
  ~FirstReference() {
    if (node_->references.fetch_sub(1, std::memory_order_acq_rel) == 1) node_->destroy(node_);
  }
  FirstReference(const FirstReference&) = delete;
  FirstReference& operator=(const FirstReference&) = delete;

 private:
  Node* node_;
};

void fill_output(Node& node, size_t index, Tensor& output) {
  TensorImpl* impl = output.impl();
  node.outputs[index].shape = impl->shape;
  node.outputs[index].dtype = impl->dtype;
}

/// Makes `output` a result of the node. Integer outputs (indices) carry no gradient.
void attach(Node& node, size_t index, Tensor& output) {
  TensorImpl* impl = output.impl();
  if (!is_floating(impl->dtype)) return;
  node.references.fetch_add(1, std::memory_order_relaxed);
  GraphNode* previous = impl->node;
  impl->node = &node;
  impl->output_index = static_cast<uint16_t>(index);
  impl->requires_grad = true;
  if (previous != nullptr && previous->references.fetch_sub(1, std::memory_order_acq_rel) == 1)
    previous->destroy(previous);
}

/// The node's own output must not keep the node alive: what is saved is an alias outside the graph.
Tensor alias_of(const Tensor& output) {
  const TensorImpl* impl = output.impl();
  return tensor_over(impl->storage, impl->shape, impl->strides, impl->storage_offset, impl->dtype);
}

}  // namespace

void record(OpId op, const Attrs& attrs, std::span<const TensorRef> inputs,
            std::span<Tensor> outputs, bool in_place) {
  const OpInfo& info = op_info(op);
  Node* node = Node::create(inputs.size(), outputs.size());
  const FirstReference reference(node);
  node->op = op;
  node->attrs = attrs;
  node->device = outputs[0].impl()->device;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i] == nullptr) continue;
    TensorImpl* impl = impl_of(inputs[i]);
    InputSlot& slot = node->inputs[i];
    slot.present = true;
    slot.shape = impl->shape;
    slot.dtype = impl->dtype;
    slot.edge.connect(impl);
    if (i < 16 && (info.saves >> i & 1u)) {
      // What was overwritten keeps the version from before: using it in backward is then an error.
      const bool rewritten = in_place && impl->storage.get() == outputs[0].impl()->storage.get();
      const uint32_t now = impl->storage->version.load(std::memory_order_relaxed);
      slot.saved.save(rewritten ? alias_of(share(impl)) : share(impl), rewritten ? now - 1 : now);
    }
  }
  for (size_t i = 0; i < outputs.size(); ++i) {
    fill_output(*node, i, outputs[i]);
    if (info.saves >> (16 + i) & 1u)
      node->outputs[i].saved.save(alias_of(outputs[i]), outputs[i].version());
    attach(*node, i, outputs[i]);
  }
}

void record_function(const std::string& name, std::span<const Tensor> inputs,
                     std::span<Tensor> outputs,
                     std::function<std::vector<Tensor>(const std::vector<Tensor>&)> backward) {
  Node* node = Node::create(inputs.size(), outputs.size());
  const FirstReference reference(node);
  node->make_extras().name = name;
  node->extras->backward = std::move(backward);
  node->device = outputs[0].device();
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].defined()) continue;
    InputSlot& slot = node->inputs[i];
    slot.present = true;
    slot.shape = inputs[i].shape();
    slot.dtype = inputs[i].dtype();
    slot.edge.connect(inputs[i].impl());
  }
  for (size_t i = 0; i < outputs.size(); ++i) {
    fill_output(*node, i, outputs[i]);
    attach(*node, i, outputs[i]);
  }
}

}  // namespace detail

}  // namespace weft::inline v0
