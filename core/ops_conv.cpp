// Convolution: shape rules and public functions.
#include <weft/core/base/check.hpp>
#include <weft/core/conv_attrs.hpp>
#include <weft/core/infer.hpp>
#include <weft/core/ops.hpp>

namespace weft::inline v0 {

namespace {

void check_floating(const char* op, TensorRef t) {
  WEFT_CHECK(ArgumentError, is_floating(t->dtype),
             "{}: needs floating-point tensors, got {}; convert with .to(DType::f32)", op,
             name_of(t->dtype));
}

void check_pair(const char* op, TensorRef a, TensorRef b) {
  check_floating(op, a);
  WEFT_CHECK(ArgumentError, a->dtype == b->dtype,
             "{}: the inputs have different dtypes, {} and {}; convert one with .to(dtype)", op,
             name_of(a->dtype), name_of(b->dtype));
}

/// Height or width of the result.
int64_t conv_size(int64_t size, int64_t kernel, int64_t stride, int64_t padding, int64_t dilation) {
  const int64_t room = size + 2 * padding - dilation * (kernel - 1) - 1;
  return room < 0 ? 0 : room / stride + 1;
}

}  // namespace

namespace infer {

/// x [n, c, h, w], weight [out, c / groups, kh, kw], bias [out] or none.
void conv2d(InferCall& call) {
  const TensorRef x = call.inputs[0], weight = call.inputs[1], bias = call.inputs[2];
  const auto attrs = call.attrs.as<Conv2dAttrs>();
  check_pair("conv2d", x, weight);
  WEFT_CHECK(ArgumentError, x->rank() == 4 && weight->rank() == 4,
             "conv2d: needs an input [n, c, h, w] and a weight [out, c / groups, kh, kw], got {} "
             "and {}",
             to_string(x->shape), to_string(weight->shape));
  const int64_t out = weight->shape[0];
  WEFT_CHECK(ArgumentError, x->shape[1] == weight->shape[1] * attrs.groups,
             "conv2d: the weight {} takes {} channels in {} groups, the input {} has {}",
             to_string(weight->shape), weight->shape[1] * attrs.groups, attrs.groups,
             to_string(x->shape), x->shape[1]);
  WEFT_CHECK(ArgumentError, out % attrs.groups == 0,
             "conv2d: {} output channels do not divide into {} groups", out, attrs.groups);
  WEFT_CHECK(ArgumentError, x->shape[1] > 0 && x->shape[2] > 0 && x->shape[3] > 0,
             "conv2d: only the batch may be empty, got an input {}", to_string(x->shape));
  Shape shape{x->shape[0], out, 0, 0};
  for (int i = 0; i < 2; ++i) {
    shape[2 + i] = conv_size(x->shape[2 + i], weight->shape[2 + i], attrs.stride[i],
                             attrs.padding[i], attrs.dilation[i]);
    WEFT_CHECK(ArgumentError, shape[2 + i] > 0 && weight->shape[2 + i] > 0,
               "conv2d: a kernel of {} x {} (dilation {} x {}) does not fit into the input {} with "
               "padding {} x {}",
               weight->shape[2], weight->shape[3], attrs.dilation[0], attrs.dilation[1],
               to_string(x->shape), attrs.padding[0], attrs.padding[1]);
  }
  call.outputs[0].shape = shape;
  call.outputs[0].dtype = x->dtype;
  if (bias == nullptr) return;
  check_pair("conv2d", x, bias);
  WEFT_CHECK(ArgumentError, bias->shape == Shape({out}),
             "conv2d: the bias must have the shape [{}], got {}", out, to_string(bias->shape));
}

/// gradient [n, out, oh, ow], weight
void conv2d_backward_input(InferCall& call) {
  const TensorRef gradient = call.inputs[0], weight = call.inputs[1];
  const auto attrs = call.attrs.as<Conv2dAttrs>();
  check_pair("conv2d_backward_input", gradient, weight);
  WEFT_CHECK(ArgumentError,
             gradient->rank() == 4 && weight->rank() == 4 && gradient->shape[1] == weight->shape[0],
             "conv2d_backward_input: gradient {} and weight {} do not belong together",
             to_string(gradient->shape), to_string(weight->shape));
  call.outputs[0].shape = {gradient->shape[0], weight->shape[1] * attrs.groups, attrs.size[0],
                           attrs.size[1]};
  call.outputs[0].dtype = gradient->dtype;
}

/// gradient [n, out, oh, ow], x
void conv2d_backward_weight(InferCall& call) {
  const TensorRef gradient = call.inputs[0], x = call.inputs[1];
  const auto attrs = call.attrs.as<Conv2dAttrs>();
  check_pair("conv2d_backward_weight", gradient, x);
  WEFT_CHECK(ArgumentError,
             gradient->rank() == 4 && x->rank() == 4 && gradient->shape[0] == x->shape[0],
             "conv2d_backward_weight: gradient {} and input {} do not belong together",
             to_string(gradient->shape), to_string(x->shape));
  call.outputs[0].shape = {gradient->shape[1], x->shape[1] / attrs.groups, attrs.size[0],
                           attrs.size[1]};
  call.outputs[0].dtype = gradient->dtype;
}

}  // namespace infer

namespace detail {

Tensor conv2d_with(const Tensor& x, const Tensor& weight, const Tensor& bias,
                   const Conv2dAttrs& attrs) {
  const TensorRef refs[] = {x.checked(), weight.checked(), bias.impl()};
  return dispatch(OpId::conv2d, Attrs(attrs), refs);
}

Tensor conv2d_backward_input(const Tensor& gradient, const Tensor& weight,
                             const Conv2dAttrs& attrs) {
  const TensorRef refs[] = {gradient.checked(), weight.checked()};
  return dispatch(OpId::conv2d_backward_input, Attrs(attrs), refs);
}

Tensor conv2d_backward_weight(const Tensor& gradient, const Tensor& x, const Conv2dAttrs& attrs) {
  const TensorRef refs[] = {gradient.checked(), x.checked()};
  return dispatch(OpId::conv2d_backward_weight, Attrs(attrs), refs);
}

}  // namespace detail

Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias,
              const Conv2dOptions& options) {
  WEFT_CHECK(ArgumentError, options.stride.h >= 1 && options.stride.w >= 1,
             "conv2d: stride {} x {}; both must be at least 1", options.stride.h, options.stride.w);
  WEFT_CHECK(ArgumentError, options.padding.h >= 0 && options.padding.w >= 0,
             "conv2d: padding {} x {}; negative padding is not supported", options.padding.h,
             options.padding.w);
  WEFT_CHECK(ArgumentError, options.dilation.h >= 1 && options.dilation.w >= 1,
             "conv2d: dilation {} x {}; both must be at least 1", options.dilation.h,
             options.dilation.w);
  WEFT_CHECK(ArgumentError, options.groups >= 1, "conv2d: {} groups; at least 1", options.groups);
  Conv2dAttrs attrs;
  const auto put = [](int64_t(&to)[2], Pair from) {
    to[0] = from.h;
    to[1] = from.w;
  };
  put(attrs.stride, options.stride);
  put(attrs.padding, options.padding);
  put(attrs.dilation, options.dilation);
  attrs.groups = options.groups;
  // One image without a batch dim, as in PyTorch.
  if (x.dim() == 3) return squeeze(detail::conv2d_with(unsqueeze(x, 0), weight, bias, attrs), 0);
  return detail::conv2d_with(x, weight, bias, attrs);
}

}  // namespace weft::inline v0
