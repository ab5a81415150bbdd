// Shape rules of the reductions.
#include <weft/core/base/check.hpp>
#include <weft/core/infer.hpp>
#include <weft/core/row_attrs.hpp>

namespace weft::inline v0::infer {

namespace {

/// The input's shape without the reduced dims, or with size 1 in their place.
void drop_dims(InferCall& call) {
  const auto attrs = call.attrs.as<ReduceAttrs>();
  const Shape& shape = call.inputs[0]->shape;
  Shape out;
  for (int i = 0; i < shape.rank(); ++i) {
    if (!attrs.reduces(i))
      out.push_back(shape[i]);
    else if (attrs.keepdim)
      out.push_back(1);
  }
  call.outputs[0].shape = out;
}

}  // namespace

/// Whole numbers and truth values add up in i64.
void reduce_sum(InferCall& call) {
  drop_dims(call);
  const DType dtype = call.inputs[0]->dtype;
  call.outputs[0].dtype = is_floating(dtype) ? dtype : DType::i64;
}

/// Floating-point inputs alone.
void reduce_real(InferCall& call) {
  drop_dims(call);
  call.outputs[0].dtype = call.inputs[0]->dtype;
  WEFT_CHECK(ArgumentError, is_floating(call.inputs[0]->dtype),
             "{}: needs a floating-point tensor, got {}; convert it with .to(DType::f32)",
             detail::op_name(call), name_of(call.inputs[0]->dtype));
}

/// One of the elements: there must be one.
void reduce_choose(InferCall& call) {
  drop_dims(call);
  call.outputs[0].dtype = call.inputs[0]->dtype;
  const auto attrs = call.attrs.as<ReduceAttrs>();
  const Shape& shape = call.inputs[0]->shape;
  for (int i = 0; i < shape.rank(); ++i)
    WEFT_CHECK(ArgumentError,
               !attrs.reduces(i) || shape[i] > 0 || call.outputs[0].shape.numel() == 0,
               "{}: dim {} of shape {} has no elements to choose from", detail::op_name(call), i,
               to_string(shape));
}

/// Truth values.
void reduce_truth(InferCall& call) {
  drop_dims(call);
  call.outputs[0].dtype = DType::boolean;
}

/// Values and places along one dim.
void choose_dim(InferCall& call) {
  const auto attrs = call.attrs.as<DimAttrs>();
  Shape shape = call.inputs[0]->shape;
  if (shape.rank() > 0) {
    WEFT_CHECK(ArgumentError, shape[attrs.dim] > 0,
               "{}: dim {} of shape {} has no elements to choose from",
               call.op == OpId::max_dim ? "max" : "min", attrs.dim, to_string(shape));
    if (attrs.keepdim)
      shape[attrs.dim] = 1;
    else
      shape.erase(attrs.dim);
  }
  call.outputs[0].shape = call.outputs[1].shape = shape;
  call.outputs[0].dtype = call.inputs[0]->dtype;
  call.outputs[1].dtype = DType::i64;
}

/// The input's shape; whole numbers and truth values add up in i64.
void cumulate(InferCall& call) {
  const DType dtype = call.inputs[0]->dtype;
  call.outputs[0].shape = call.inputs[0]->shape;
  call.outputs[0].dtype = is_floating(dtype) ? dtype : DType::i64;
}

void sort(InferCall& call) {
  call.outputs[0].shape = call.outputs[1].shape = call.inputs[0]->shape;
  call.outputs[0].dtype = call.inputs[0]->dtype;
  call.outputs[1].dtype = DType::i64;
}

}  // namespace weft::inline v0::infer
