#include <weft/autograd/graph.hpp>
#include <weft/autograd/node.hpp>
#include <weft/core/base/check.hpp>
#include <weft/core/ops.hpp>

namespace weft::inline v0 {

Tensor VjpContext::grad(int i) const {
  const auto index = static_cast<size_t>(i);
  if (grads_[index].defined()) return grads_[index];
  const OutputSlot& output = node_.outputs[index];
  return zeros(output.shape, {.dtype = output.dtype, .device = node_.device});
}

Tensor VjpContext::input(int i) const {
  return node_.inputs[static_cast<size_t>(i)].saved.unpack(node_.name(), "input", i);
}

Tensor VjpContext::output(int i) const {
  const OutputSlot& slot = node_.outputs[static_cast<size_t>(i)];
  Tensor value = slot.saved.unpack(node_.name(), "output", i);
  if (!(detail::thread_flags & detail::kGradEnabled) || !is_floating(value.dtype())) return value;
  // The alias was saved outside the graph; for higher derivatives it is this node's result again.
  Tensor result = tensor_over(value.storage(), value.shape(), value.strides(),
                              value.storage_offset(), value.dtype());
  node_.references.fetch_add(1, std::memory_order_relaxed);
  result.impl()->node = &node_;
  result.impl()->output_index = static_cast<uint16_t>(i);
  result.impl()->requires_grad = true;
  return result;
}

bool VjpContext::has_input(int i) const { return node_.inputs[static_cast<size_t>(i)].present; }
int VjpContext::input_count() const { return static_cast<int>(node_.inputs.size()); }
const Shape& VjpContext::input_shape(int i) const {
  return node_.inputs[static_cast<size_t>(i)].shape;
}
DType VjpContext::input_dtype(int i) const { return node_.inputs[static_cast<size_t>(i)].dtype; }
Device VjpContext::device() const { return node_.device; }
const Attrs& VjpContext::raw_attrs() const { return node_.attrs; }

bool VjpContext::needs(int i) const {
  return static_cast<bool>(node_.inputs[static_cast<size_t>(i)].edge);
}

void VjpContext::set(int i, Tensor gradient) {
  const InputSlot& slot = node_.inputs[static_cast<size_t>(i)];
  if (!slot.edge) return;
  if (!(gradient.shape() == slot.shape)) gradient = sum_to(gradient, slot.shape);
  if (gradient.dtype() != slot.dtype) gradient = gradient.to(slot.dtype);
  results_[static_cast<size_t>(i)] = std::move(gradient);
}

}  // namespace weft::inline v0
