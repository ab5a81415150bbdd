// The user's side: guards, grad, backward, hooks, leaves.
#include <weft/autograd/autograd.hpp>

#include <atomic>

#include <weft/autograd/graph.hpp>
#include <weft/autograd/leaf.hpp>
#include <weft/core/base/check.hpp>
#include <weft/core/base/env.hpp>
#include <weft/core/ops.hpp>

namespace weft::inline v0 {

namespace {

bool exchange_flag(uint32_t flag, bool value) {
  const bool previous = (detail::thread_flags & flag) != 0;
  if (value)
    detail::thread_flags |= flag;
  else
    detail::thread_flags &= ~flag;
  return previous;
}

TensorImpl* checked_leaf(const char* op, const Tensor& tensor) {
  TensorImpl* impl = tensor.checked();
  WEFT_CHECK(ArgumentError, impl->is_leaf() && impl->requires_grad,
             "{}: the tensor of shape {} is no leaf that requires grad", op,
             to_string(impl->shape));
  return impl;
}

void check_like(const char* op, const Tensor& leaf, const Tensor& grad) {
  WEFT_CHECK(ArgumentError, grad.shape() == leaf.shape(),
             "{}: the gradient has shape {}, the tensor {}", op, to_string(grad.shape()),
             to_string(leaf.shape()));
  WEFT_CHECK(ArgumentError, grad.dtype() == leaf.dtype(), "{}: the gradient is {}, the tensor {}",
             op, name_of(grad.dtype()), name_of(leaf.dtype()));
  WEFT_CHECK(ArgumentError, grad.device() == leaf.device(),
             "{}: the gradient is on {}, the tensor on {}", op, to_string(grad.device()),
             to_string(leaf.device()));
}

}  // namespace

NoGrad::NoGrad() : previous_(exchange_flag(detail::kGradEnabled, false)) {}
NoGrad::~NoGrad() { exchange_flag(detail::kGradEnabled, previous_); }
EnableGrad::EnableGrad() : previous_(exchange_flag(detail::kGradEnabled, true)) {}
EnableGrad::~EnableGrad() { exchange_flag(detail::kGradEnabled, previous_); }
bool is_grad_enabled() { return (detail::thread_flags & detail::kGradEnabled) != 0; }

DetectAnomaly::DetectAnomaly() : previous_(std::exchange(detail::detect_anomaly, true)) {}
DetectAnomaly::~DetectAnomaly() { detail::detect_anomaly = previous_; }

void set_deterministic(bool value) { detail::set_deterministic(value); }
bool is_deterministic() { return detail::deterministic(); }

std::vector<Tensor> grad(const std::vector<Tensor>& outputs, const std::vector<Tensor>& inputs,
                         const GradOptions& options) {
  WEFT_CHECK(ArgumentError, !outputs.empty() && !inputs.empty(),
             "grad: needs outputs and inputs, got {} and {}", outputs.size(), inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i)
    WEFT_CHECK(ArgumentError, inputs[i].requires_grad(),
               "grad: input {} of shape {} does not require grad", i, to_string(inputs[i].shape()));
  const detail::EngineOptions engine{options.retain_graph || options.create_graph,
                                     options.create_graph};
  std::vector<Tensor> results =
      detail::run_backward(outputs, options.grad_outputs, &inputs, engine);
  for (size_t i = 0; i < results.size() && !options.allow_unused; ++i)
    WEFT_CHECK(
        ArgumentError, results[i].defined(),
        "grad: the outputs do not depend on input {} of shape {}; set allow_unused to get an "
        "undefined tensor for it",
        i, to_string(inputs[i].shape()));
  return results;
}

void backward(const std::vector<Tensor>& outputs, const GradOptions& options) {
  detail::run_backward(outputs, options.grad_outputs, nullptr,
                       {options.retain_graph || options.create_graph, options.create_graph});
}

void Tensor::backward() const { weft::backward({*this}); }

void Tensor::backward(const Tensor& gradient, bool retain_graph, bool create_graph) const {
  weft::backward(
      {*this},
      {.grad_outputs = {gradient}, .retain_graph = retain_graph, .create_graph = create_graph});
}

Tensor& Tensor::requires_grad_(bool value) {
  TensorImpl* impl = checked();
  WEFT_CHECK(ArgumentError, !value || is_floating(impl->dtype),
             "requires_grad_: only floating-point tensors can require grad, not {}",
             name_of(impl->dtype));
  WEFT_CHECK(ArgumentError, impl->is_leaf() || value,
             "requires_grad_: the tensor of shape {} is the result of an op; use detach()",
             to_string(impl->shape));
  impl->requires_grad = value;
  return *this;
}

Tensor Tensor::grad() const {
  const LeafMeta* meta = detail::find_meta(checked());
  if (meta == nullptr) return Tensor();
  return meta->retained ? *meta->retained : meta->grad;
}

void Tensor::set_grad(const Tensor& grad) const {
  if (grad.defined()) check_like("set_grad", *this, grad);
  LeafMeta& meta = detail::leaf_meta(checked());
  if (grad.defined() && meta.buffer.defined() && !grad.is_same(meta.buffer)) {
    const NoGrad guard;
    meta.buffer.copy_(grad);
    meta.grad = meta.buffer;
  } else {
    meta.grad = grad;
  }
}

void Tensor::register_hook(std::function<Tensor(const Tensor&)> hook) const {
  TensorImpl* impl = checked();
  WEFT_CHECK(ArgumentError, impl->requires_grad,
             "register_hook: the tensor of shape {} does not require grad", to_string(impl->shape));
  if (Node* node = detail::node_of(impl))
    node->make_extras().hooks.emplace_back(impl->output_index, std::move(hook));
  else
    detail::leaf_meta(impl).hooks.push_back(std::move(hook));
}

void Tensor::retain_grad() const {
  TensorImpl* impl = checked();
  WEFT_CHECK(ArgumentError, impl->requires_grad,
             "retain_grad: the tensor of shape {} does not require grad", to_string(impl->shape));
  LeafMeta& meta = detail::leaf_meta(impl);
  if (impl->is_leaf() || meta.retained) return;
  // The node must not keep the tensor alive, nor point to it: both share the place of the gradient.
  meta.retained = std::make_shared<Tensor>();
  register_hook([place = meta.retained](const Tensor& gradient) {
    *place = place->defined() ? add(*place, gradient) : gradient;
    return Tensor();
  });
}

Tensor Tensor::detach() const {
  const TensorImpl* impl = checked();
  Tensor result =
      tensor_over(impl->storage, impl->shape, impl->strides, impl->storage_offset, impl->dtype);
  result.impl()->wrapped_number = impl->wrapped_number;
  return result;
}

uint64_t add_leaf_hook(const Tensor& leaf, std::function<void(const Tensor&)> hook) {
  static constinit std::atomic<uint64_t> numbers{0};
  const uint64_t number = numbers.fetch_add(1) + 1;
  detail::leaf_meta(checked_leaf("add_leaf_hook", leaf))
      .after.emplace_back(number, std::move(hook));
  return number;
}

void remove_leaf_hook(const Tensor& leaf, uint64_t number) {
  LeafMeta* meta = detail::find_meta(leaf.checked());
  if (meta == nullptr) return;
  std::erase_if(meta->after, [number](const auto& entry) { return entry.first == number; });
}

void set_grad_buffer(const Tensor& leaf, const Tensor& buffer) {
  LeafMeta& meta = detail::leaf_meta(checked_leaf("set_grad_buffer", leaf));
  if (buffer.defined()) check_like("set_grad_buffer", leaf, buffer);
  const NoGrad guard;
  if (meta.grad.defined()) {
    if (buffer.defined()) {
      Tensor target = buffer;
      target.copy_(meta.grad);
      meta.grad = target;
    } else {
      meta.grad = meta.grad.clone();
    }
  }
  meta.buffer = buffer;
}

Tensor grad_buffer(const Tensor& leaf) {
  const LeafMeta* meta = detail::find_meta(leaf.checked());
  return meta == nullptr ? Tensor() : meta->buffer;
}

}  // namespace weft::inline v0
