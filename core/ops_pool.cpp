// Pooling: shape rules and public functions.
#include <weft/core/base/check.hpp>
#include <weft/core/conv_attrs.hpp>
#include <weft/core/infer.hpp>
#include <weft/core/ops.hpp>

namespace weft::inline v0 {

namespace {

/// Height or width of the result. In ceil mode a last window may reach beyond the input, but must
/// start inside it or in the padding before it.
int64_t pool_size(int64_t size, int64_t kernel, int64_t stride, int64_t padding, int64_t dilation,
                  bool ceil_mode) {
  const int64_t room = size + 2 * padding - dilation * (kernel - 1) - 1;
  if (room < 0 && !(ceil_mode && room > -stride)) return 0;
  int64_t count = (room + (ceil_mode ? stride - 1 : 0)) / stride + 1;
  if (ceil_mode && (count - 1) * stride >= size + padding) --count;
  return count;
}

void infer_pool(InferCall& call) {
  const char* op = detail::op_name(call);
  const TensorRef x = call.inputs[0];
  const auto attrs = call.attrs.as<Pool2dAttrs>();
  WEFT_CHECK(ArgumentError, is_floating(x->dtype),
             "{}: needs a floating-point tensor, got {}; convert it with .to(DType::f32)", op,
             name_of(x->dtype));
  WEFT_CHECK(ArgumentError, x->rank() == 3 || x->rank() == 4,
             "{}: needs an input [n, c, h, w] or [c, h, w], got {}", op, to_string(x->shape));
  Shape shape = x->shape;
  for (int i = 0; i < 2; ++i) {
    const int d = x->rank() - 2 + i;
    shape[d] = pool_size(x->shape[d], attrs.kernel[i], attrs.stride[i], attrs.padding[i],
                         attrs.dilation[i], attrs.ceil_mode);
    WEFT_CHECK(ArgumentError, shape[d] > 0,
               "{}: a window of {} x {} (dilation {} x {}) does not fit into the input {} with "
               "padding {} x {}",
               op, attrs.kernel[0], attrs.kernel[1], attrs.dilation[0], attrs.dilation[1],
               to_string(x->shape), attrs.padding[0], attrs.padding[1]);
  }
  call.outputs[0].shape = shape;
  call.outputs[0].dtype = x->dtype;
}

/// The input's size from the attributes.
void infer_pool_backward(InferCall& call) {
  const TensorRef gradient = call.inputs[0];
  const auto attrs = call.attrs.as<Pool2dAttrs>();
  Shape shape = gradient->shape;
  shape[shape.rank() - 2] = attrs.size[0];
  shape[shape.rank() - 1] = attrs.size[1];
  call.outputs[0].shape = shape;
  call.outputs[0].dtype = gradient->dtype;
}

Pool2dAttrs attrs_of(const char* op, const Pool2dOptions& options) {
  const Pair stride = options.stride.value_or(options.kernel_size);
  Pool2dAttrs attrs;
  const auto put = [](int64_t(&to)[2], Pair from) {
    to[0] = from.h;
    to[1] = from.w;
  };
  put(attrs.kernel, options.kernel_size);
  put(attrs.stride, stride);
  put(attrs.padding, options.padding);
  put(attrs.dilation, options.dilation);
  attrs.ceil_mode = options.ceil_mode;
  attrs.count_include_pad = options.count_include_pad;
  for (int i = 0; i < 2; ++i) {
    WEFT_CHECK(ArgumentError,
               attrs.kernel[i] >= 1 && attrs.stride[i] >= 1 && attrs.dilation[i] >= 1,
               "{}: kernel_size {}, stride {} and dilation {} must be at least 1", op,
               attrs.kernel[i], attrs.stride[i], attrs.dilation[i]);
    const int64_t reach = (attrs.kernel[i] - 1) * attrs.dilation[i] + 1;
    WEFT_CHECK(ArgumentError, attrs.padding[i] >= 0 && attrs.padding[i] <= reach / 2,
               "{}: padding {} must be between 0 and half of the window's reach of {}", op,
               attrs.padding[i], reach);
  }
  return attrs;
}

}  // namespace

namespace infer {

/// The largest of each window, and (private) its place in the plane.
void max_pool2d(InferCall& call) {
  infer_pool(call);
  call.outputs[1].shape = call.outputs[0].shape;
  call.outputs[1].dtype = DType::i64;
}

void max_pool2d_backward(InferCall& call) { infer_pool_backward(call); }

/// x picked at places.
void max_pool2d_gather(InferCall& call) {
  call.outputs[0].shape = call.inputs[1]->shape;
  call.outputs[0].dtype = call.inputs[0]->dtype;
}

void avg_pool2d(InferCall& call) { infer_pool(call); }

void avg_pool2d_backward(InferCall& call) { infer_pool_backward(call); }

}  // namespace infer

namespace detail {

Tensor max_pool2d_backward(const Tensor& gradient, const Tensor& index, const Pool2dAttrs& attrs) {
  const TensorRef refs[] = {gradient.checked(), index.checked()};
  return dispatch(OpId::max_pool2d_backward, Attrs(attrs), refs);
}

Tensor max_pool2d_gather(const Tensor& x, const Tensor& index) {
  const TensorRef refs[] = {x.checked(), index.checked()};
  return dispatch(OpId::max_pool2d_gather, Attrs(Pool2dAttrs()), refs);
}

Tensor avg_pool2d_with(const Tensor& x, const Pool2dAttrs& attrs) {
  const TensorRef refs[] = {x.checked()};
  return dispatch(OpId::avg_pool2d, Attrs(attrs), refs);
}

Tensor avg_pool2d_backward(const Tensor& gradient, const Pool2dAttrs& attrs) {
  const TensorRef refs[] = {gradient.checked()};
  return dispatch(OpId::avg_pool2d_backward, Attrs(attrs), refs);
}

}  // namespace detail

Tensor max_pool2d(const Tensor& x, const Pool2dOptions& options) {
  const TensorRef refs[] = {x.checked()};
  Tensor outputs[2];
  dispatch_multi(OpId::max_pool2d, Attrs(attrs_of("max_pool2d", options)), refs, outputs);
  return outputs[0];
}

Tensor avg_pool2d(const Tensor& x, const Pool2dOptions& options) {
  WEFT_CHECK(ArgumentError, options.dilation == Pair(1),
             "avg_pool2d: takes no dilation, got {} x {}", options.dilation.h, options.dilation.w);
  return detail::avg_pool2d_with(x, attrs_of("avg_pool2d", options));
}

}  // namespace weft::inline v0
