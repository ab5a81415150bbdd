#include <algorithm>
#include <atomic>

#include <weft/core/backend.hpp>
#include <weft/core/base/check.hpp>
#include <weft/core/base/env.hpp>
#include <weft/core/infer.hpp>
#include <weft/core/op_table.hpp>

namespace weft::inline v0 {

namespace detail {
constinit thread_local uint32_t thread_flags = kGradEnabled;

namespace {
constexpr int kUnknown = -1;
constinit std::atomic<int> deterministic_state{kUnknown};
}  // namespace

bool deterministic() {
  int state = deterministic_state.load(std::memory_order_relaxed);
  if (state == kUnknown) [[unlikely]] {
    state = env::get_flag("WEFT_DETERMINISTIC").value_or(false) ? 1 : 0;
    deterministic_state.store(state, std::memory_order_relaxed);
  }
  return state != 0;
}

void set_deterministic(bool value) { deterministic_state.store(value, std::memory_order_relaxed); }
}

using detail::impl_of;

Context::~Context() = default;

std::byte* Context::workspace(size_t bytes) {
  scratch_.push_back(Storage::allocate(bytes, Device::cpu(), "workspace"));
  return scratch_.back()->data;
}

namespace {

[[gnu::cold, gnu::noinline]] void fail_arity(const OpInfo& info, size_t count) {
  detail::fail<ArgumentError>("{}: takes {} tensors, got {}", info.name, info.arity, count);
}

[[gnu::cold, gnu::noinline]] void fail_missing(const OpInfo& info, size_t index) {
  detail::fail<ArgumentError>("{}: input {} is an empty tensor; assign it first", info.name, index);
}

/// Evictable storages move: the address is taken anew before each use.
[[gnu::cold, gnu::noinline]] void check_residency(const OpInfo& info, TensorImpl& impl) {
  WEFT_CHECK(ArgumentError, impl.storage.is_resident(),
             "{}: the storage of an input of shape {} ({} bytes) is evicted; pin it before use",
             info.name, to_string(impl.shape), impl.storage->bytes);
  impl.data = impl.storage->data + impl.storage_offset * impl.item_size();
}

[[gnu::cold, gnu::noinline]] void fail_devices(const OpInfo& info, Device a, Device b) {
  detail::fail<DeviceError>("{}: inputs are on {} and {}; move one with .to(device)", info.name,
                            to_string(a), to_string(b));
}

/// Checks the inputs; returns the device to run on and whether any of them requires grad.
Device check_inputs(const OpInfo& info, Inputs inputs, bool& any_grad) {
  if (info.arity >= 0 && inputs.size() != static_cast<size_t>(info.arity)) [[unlikely]]
    fail_arity(info, inputs.size());
  const TensorMeta* first = nullptr;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i] == nullptr) {
      if (!(info.optional >> i & 1u)) [[unlikely]]
        fail_missing(info, i);
      continue;
    }
    TensorImpl* impl = impl_of(inputs[i]);
    any_grad |= impl->requires_grad;
    if (impl->checks_residency) [[unlikely]]
      check_residency(info, *impl);
    if (first == nullptr)
      first = impl;
    else if (!(impl->device == first->device)) [[unlikely]]
      fail_devices(info, first->device, impl->device);
  }
  if (first == nullptr) [[unlikely]]
    fail_missing(info, 0);
  return first->device;
}

void run(OpId op, const OpInfo& info, const Attrs& attrs, Inputs inputs, Outputs outputs,
         Device device) {
  if (device.is_cpu()) [[likely]] {
    Context context(device, 0, nullptr, detail::deterministic());
    detail::cpu_kernel(op)(context, attrs, inputs, outputs);
    return;
  }
  if (device.is_meta()) {
    WEFT_CHECK(DeviceError, !(info.traits & kNeedsValues),
               "{}: the result of {} depends on values, which a meta tensor does not have",
               info.name, to_string(inputs[0]->shape));
    return;
  }
  detail::backend(device).launch(detail::cpu_kernel(op), attrs, inputs, outputs);
}

Tensor make_view(TensorRef input, const OutputSpec& spec) {
  const TensorImpl* base = impl_of(input);
  Tensor view = tensor_over(base->storage, spec.shape, spec.strides,
                            base->storage_offset + spec.offset, spec.dtype);
  view.impl()->is_view = true;
  view.impl()->wrapped_number = base->wrapped_number;
  view.impl()->view_version = base->storage->version.load(std::memory_order_relaxed);
  return view;
}

/// A recorded view whose memory was rewritten afterwards has a history that no longer tells how its
/// values came about.
[[gnu::cold, gnu::noinline]] void check_view(const OpInfo& info, const TensorImpl& impl) {
  const uint32_t now = impl.storage->version.load(std::memory_order_relaxed);
  WEFT_CHECK(ArgumentError, impl.view_version == now,
             "{}: input of shape {} is a view whose memory was changed in place after the view was "
             "made (version {}, now {}); take the view again",
             info.name, to_string(impl.shape), impl.view_version, now);
}

void record_call(OpId op, const OpInfo& info, const Attrs& attrs, Inputs inputs,
                 std::span<Tensor> outputs, bool in_place) {
  if (info.traits & kNotDifferentiable) return;
  for (const TensorRef ref : inputs) {
    if (ref == nullptr) continue;
    const TensorImpl* impl = impl_of(ref);
    if (!impl->is_view || in_place) continue;
    // A view without a history is wrong too once its base was given one.
    if (impl->node != nullptr || impl->view_version < impl->storage->recorded_write)
      check_view(info, *impl);
  }
  detail::record(op, attrs, inputs, outputs, in_place);
}

}  // namespace

Tensor dispatch(OpId op, const Attrs& attrs, Inputs inputs) {
  const OpInfo& info = op_info(op);
  bool any_grad = false;
  const Device device = check_inputs(info, inputs, any_grad);
  OutputSpec spec;
  InferCall call{op, attrs, inputs, &spec};
  info.infer(call);
  Tensor out;
  if (info.traits & kViewOp) {
    out = make_view(inputs[0], spec);
  } else {
    out = empty_for(info.name, spec.shape, spec.dtype, device);
    const TensorRef ref = out.impl();
    run(op, info, attrs, inputs, Outputs(&ref, 1), device);
  }
  if (any_grad && (detail::thread_flags & detail::kGradEnabled))
    record_call(op, info, attrs, inputs, std::span(&out, 1), false);
  return out;
}

void dispatch_multi(OpId op, const Attrs& attrs, Inputs inputs, std::span<Tensor> outputs) {
  const OpInfo& info = op_info(op);
  bool any_grad = false;
  const Device device = check_inputs(info, inputs, any_grad);
  constexpr size_t kMost = 8;
  WEFT_CHECK(ArgumentError,
             outputs.size() == static_cast<size_t>(info.outputs) && outputs.size() <= kMost,
             "{}: has {} outputs, {} were asked for", info.name, info.outputs, outputs.size());
  OutputSpec specs[kMost];
  InferCall call{op, attrs, inputs, specs};
  info.infer(call);
  TensorRef refs[kMost];
  for (size_t i = 0; i < outputs.size(); ++i) {
    outputs[i] = empty_for(info.name, specs[i].shape, specs[i].dtype, device);
    refs[i] = outputs[i].impl();
  }
  run(op, info, attrs, inputs, Outputs(refs, outputs.size()), device);
  if (any_grad && (detail::thread_flags & detail::kGradEnabled))
    record_call(op, info, attrs, inputs, outputs, false);
}

void dispatch_views(OpId op, const Attrs& attrs, const Tensor& input, std::span<Tensor> outputs) {
  const OpInfo& info = op_info(op);
  const TensorRef ref = input.checked();
  bool any_grad = false;
  check_inputs(info, Inputs(&ref, 1), any_grad);
  std::vector<OutputSpec> specs(outputs.size());
  InferCall call{op, attrs, Inputs(&ref, 1), specs.data()};
  info.infer(call);
  for (size_t i = 0; i < outputs.size(); ++i) outputs[i] = make_view(ref, specs[i]);
  if (any_grad && (detail::thread_flags & detail::kGradEnabled))
    record_call(op, info, attrs, Inputs(&ref, 1), outputs, false);
}

namespace {

/// The memory has new values: saved tensors that share it notice, and their error names the op.
void mark_written(const OpInfo& info, StorageImpl& storage) {
  storage.version.fetch_add(1, std::memory_order_relaxed);
  storage.writer = info.name;
}

/// What may be written to, and what autograd could not follow.
void check_target(const OpInfo& info, const TensorImpl& out, const OutputSpec& spec,
                  bool recording) {
  WEFT_CHECK(ArgumentError, out.shape == spec.shape,
             "{}: the result has shape {}, which cannot be written in place into shape {}",
             info.name, to_string(spec.shape), to_string(out.shape));
  WEFT_CHECK(ArgumentError, !(out.storage->flags & kReadOnly),
             "{}: in place on read-only memory (a mapped file); clone() the tensor first",
             info.name);
  for (int i = 0; i < out.rank(); ++i)
    WEFT_CHECK(ArgumentError, out.strides[i] != 0 || out.shape[i] <= 1,
               "{}: in place on an expanded tensor of shape {}, whose elements share memory; "
               "clone() it first",
               info.name, to_string(out.shape));
  if (!recording) return;
  WEFT_CHECK(ArgumentError, !(out.requires_grad && out.is_leaf()),
             "{}: in place on a leaf of shape {} that requires grad; use NoGrad, or an op that "
             "makes a new tensor",
             info.name, to_string(out.shape));
  WEFT_CHECK(ArgumentError, !out.is_view,
             "{}: in place on a view of shape {} while gradients are recorded; change the tensor "
             "that it views, or use cat or where",
             info.name, to_string(out.shape));
}

}  // namespace

void dispatch_into(OpId op, const Attrs& attrs, Inputs inputs, Tensor& out) {
  const OpInfo& info = op_info(op);
  TensorImpl* target = out.checked();
  if (target->checks_residency) [[unlikely]]
    check_residency(info, *target);
  bool any_grad = target->requires_grad;
  Device device = target->device;
  if (info.traits & kFactory) {
    any_grad = target->requires_grad;
  } else {
    device = check_inputs(info, inputs, any_grad);
    if (!(device == target->device)) fail_devices(info, target->device, device);
  }
  OutputSpec spec;
  spec.shape = target->shape;
  spec.dtype = target->dtype;
  InferCall call{op, attrs, inputs, &spec};
  info.infer(call);
  const bool recording = any_grad && (detail::thread_flags & detail::kGradEnabled);
  check_target(info, *target, spec, recording);
  // Pointwise kernels convert their results: to any dtype that is not of a lower category.
  const bool narrows = (is_floating(spec.dtype) && !is_floating(target->dtype)) ||
                       (is_integral(spec.dtype) && target->dtype == DType::boolean);
  WEFT_CHECK(ArgumentError, target->dtype == spec.dtype || ((info.traits & kPointwise) && !narrows),
             "{}: the result is {}, which cannot be written into a {} tensor", info.name,
             name_of(spec.dtype), name_of(target->dtype));
  const TensorRef ref = target;
  run(op, info, attrs, inputs, Outputs(&ref, 1), device);
  mark_written(info, *target->storage.get());
  if (recording) {
    record_call(op, info, attrs, inputs, std::span(&out, 1), true);
    target->storage->recorded_write = target->storage->version.load(std::memory_order_relaxed);
  }
}

void dispatch_update(OpId op, const Attrs& attrs, Inputs inputs, std::span<Tensor> outputs) {
  const OpInfo& info = op_info(op);
  bool any_grad = false;
  const Device device = check_inputs(info, inputs, any_grad);
  constexpr size_t kMost = 8;
  WEFT_CHECK(ArgumentError,
             outputs.size() == static_cast<size_t>(info.outputs) && outputs.size() <= kMost,
             "{}: changes {} tensors, {} were given", info.name, info.outputs, outputs.size());
  OutputSpec specs[kMost];
  InferCall call{op, attrs, inputs, specs};
  info.infer(call);
  TensorRef refs[kMost];
  for (size_t i = 0; i < outputs.size(); ++i) {
    TensorImpl* target = outputs[i].impl();
    refs[i] = target;
    if (target == nullptr) continue;
    if (target->checks_residency) check_residency(info, *target);
    if (!(device == target->device)) fail_devices(info, target->device, device);
    check_target(info, *target, specs[i], false);
    WEFT_CHECK(ArgumentError, target->contiguous,
               "{}: changes packed tensors alone; one of shape {} has strides {}", info.name,
               to_string(target->shape), to_string(target->strides));
  }
  run(op, info, attrs, inputs, Outputs(refs, outputs.size()), device);
  for (const Tensor& out : outputs)
    if (out.defined()) mark_written(info, *out.storage().get());
}

Tensor dispatch_factory(OpId op, const Attrs& attrs, const Shape& shape,
                        const TensorOptions& options) {
  const OpInfo& info = op_info(op);
  WEFT_CHECK(ArgumentError, !options.requires_grad || is_floating(options.dtype),
             "{}: only floating-point tensors can require grad, not {}", info.name,
             name_of(options.dtype));
  Tensor out = empty_for(info.name, shape, options.dtype, options.device);
  const TensorRef ref = out.impl();
  run(op, info, attrs, Inputs(), Outputs(&ref, 1), options.device);
  out.impl()->requires_grad = options.requires_grad;
  return out;
}

}  // namespace weft::inline v0
