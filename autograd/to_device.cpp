// Tensor::to, which records copies between devices: dispatch itself runs on one device.
#include <weft/autograd/autograd.hpp>
#include <weft/core/ops.hpp>
#include <weft/core/pointwise_ops.hpp>

namespace weft::inline v0 {

Tensor Tensor::to(Device to_device, DType to_dtype) const {
  const Tensor x = dtype() == to_dtype ? *this : detail::run_op(OpId::cast, *this, Attrs(to_dtype));
  const Device from_device = device();
  if (from_device == to_device) return x;
  if (!x.requires_grad() || !is_grad_enabled()) return detail::transfer(x, to_device);
  return apply_function(
      "to",
      [to_device](FunctionContext&, const std::vector<Tensor>& inputs) {
        return std::vector<Tensor>{detail::transfer(inputs[0], to_device)};
      },
      [from_device](FunctionContext&, const std::vector<Tensor>& grads) {
        return std::vector<Tensor>{grads[0].to(from_device)};
      },
      {x})[0];
}

}  // namespace weft::inline v0
