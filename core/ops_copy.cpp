// Copies: within a device, to another dtype, to another device, into existing memory.
#include <weft/core/backend.hpp>
#include <weft/core/base/check.hpp>
#include <weft/core/ops.hpp>
#include <weft/core/pointwise_attrs.hpp>
#include <weft/core/pointwise_ops.hpp>

namespace weft::inline v0 {

namespace detail {

Tensor transfer(const Tensor& x, Device device) {
  Tensor out = empty_for("to", x.shape(), x.dtype(), device);
  if (device.is_meta() || x.numel() == 0) return out;
  WEFT_CHECK(DeviceError, !x.device().is_meta(),
             "to: a meta tensor of shape {} has no values to copy to {}; load or initialise it "
             "there",
             to_string(x.shape()), to_string(device));
  // An op gives evictable memory its present address.
  const Tensor source = x.impl()->checks_residency ? x.detach().clone() : x.detach().contiguous();
  if (source.device().is_cpu()) {
    backend(device).copy_from_host(out.impl(), source.impl()->data);
  } else if (device.is_cpu()) {
    backend(source.device()).copy_to_host(out.impl()->data, source.impl());
  } else {
    const Tensor staging = empty_for("to", x.shape(), x.dtype(), Device::cpu());
    backend(source.device()).copy_to_host(staging.impl()->data, source.impl());
    backend(device).copy_from_host(out.impl(), staging.impl()->data);
  }
  return out;
}

Tensor apart_from(const Tensor& x, const Tensor& target) {
  const TensorImpl *a = x.checked(), *b = target.checked();
  if (a->storage.get() != b->storage.get() || a->numel == 0) return x;
  const bool same = a->storage_offset == b->storage_offset && a->dtype == b->dtype &&
                    a->shape == b->shape && a->strides == b->strides;
  return same ? x : x.clone();
}

}  // namespace detail

Tensor Tensor::clone() const { return detail::run_op(OpId::cast, *this, Attrs(dtype())); }

Tensor Tensor::contiguous() const { return is_contiguous() ? *this : clone(); }

Tensor& Tensor::fill_(Scalar value) {
  // Where the tensor has a history, that ends here: a recorded copy replaces it.
  if (requires_grad() && (detail::thread_flags & detail::kGradEnabled))
    return copy_(detail::wrap_number(value, *this));
  dispatch_into(OpId::full, Attrs(FullAttrs{NumberAttr(value)}), Inputs(), *this);
  return *this;
}

Tensor& Tensor::zero_() { return fill_(0); }

Tensor& Tensor::copy_(const Tensor& source) {
  if (is_same(source)) return *this;
  bool fits = source.dim() <= dim();
  for (int i = 1; i <= source.dim() && fits; ++i)
    fits = source.size(-i) == size(-i) || source.size(-i) == 1;
  WEFT_CHECK(ArgumentError, fits, "copy_: a source of shape {} does not broadcast to {}",
             to_string(source.shape()), to_string(shape()));
  Tensor from = source.device() == device() ? source : source.to(device());
  from = detail::apart_from(from, *this);
  if (!(from.shape() == shape())) from = weft::expand(from, shape());
  const TensorRef ref = from.impl();
  dispatch_into(OpId::cast, Attrs(dtype()), Inputs(&ref, 1), *this);
  return *this;
}

}  // namespace weft::inline v0
