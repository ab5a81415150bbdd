// Shape rules of softmax, norms and losses.
#include <weft/core/base/check.hpp>
#include <weft/core/infer.hpp>
#include <weft/core/row_attrs.hpp>

namespace weft::inline v0::infer {

namespace {

/// All floating-point inputs of one dtype, which it returns; indices are passed over.
DType common_dtype(const InferCall& call) {
  const DType dtype = call.inputs[0]->dtype;
  WEFT_CHECK(ArgumentError, is_floating(dtype),
             "{}: needs a floating-point tensor, got {}; convert it with .to(DType::f32)",
             detail::op_name(call), name_of(dtype));
  for (const TensorRef t : call.inputs)
    WEFT_CHECK(ArgumentError, t == nullptr || !is_floating(t->dtype) || t->dtype == dtype,
               "{}: inputs of dtypes {} and {}; convert one with .to(dtype)", detail::op_name(call),
               name_of(dtype), name_of(t->dtype));
  return dtype;
}

/// Sums and statistics that an op keeps are f32, f64 for f64.
DType statistics_dtype(DType dtype) { return dtype == DType::f64 ? DType::f64 : DType::f32; }

}  // namespace

/// Like the first input.
void along_dim(InferCall& call) {
  call.outputs[0].shape = call.inputs[0]->shape;
  call.outputs[0].dtype = common_dtype(call);
}

/// logits [rows, classes], targets [rows], weight [classes] or none.
void cross_entropy(InferCall& call) {
  const TensorRef logits = call.inputs[0], targets = call.inputs[1], weight = call.inputs[2];
  const auto attrs = call.attrs.as<CrossEntropyAttrs>();
  const DType dtype = common_dtype(call);
  WEFT_CHECK(ArgumentError, targets->dtype == DType::i64,
             "cross_entropy: class numbers are i64, got {}; convert them with .to(DType::i64)",
             name_of(targets->dtype));
  WEFT_CHECK(ArgumentError,
             logits->rank() == 2 && targets->rank() == 1 && logits->shape[0] == targets->shape[0],
             "cross_entropy: logits {} and targets {} do not fit; targets have the logits' shape "
             "without the classes (dim 1)",
             to_string(logits->shape), to_string(targets->shape));
  WEFT_CHECK(ArgumentError,
             weight == nullptr || (weight->rank() == 1 && weight->shape[0] == logits->shape[1]),
             "cross_entropy: weight has shape {} for {} classes",
             weight == nullptr ? "" : to_string(weight->shape), logits->shape[1]);
  call.outputs[0].shape = attrs.reduction == Reduction::none ? targets->shape : Shape();
  call.outputs[0].dtype = dtype;
  call.outputs[1].shape = targets->shape;
  call.outputs[1].dtype = statistics_dtype(dtype);
  call.outputs[2].shape = Shape();
  call.outputs[2].dtype = statistics_dtype(dtype);
}

void cross_entropy_backward(InferCall& call) {
  call.outputs[0].shape = call.inputs[1]->shape;
  call.outputs[0].dtype = call.inputs[1]->dtype;
}

}  // namespace weft::inline v0::infer
