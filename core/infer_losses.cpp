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

namespace {

/// Weight and bias have `width` elements where they are given.
void check_affine(const InferCall& call, int64_t width, const char* what) {
  for (size_t i = 1; i < call.inputs.size(); ++i) {
    const TensorRef t = call.inputs[i];
    WEFT_CHECK(ArgumentError, t == nullptr || t->numel == width, "{}: {} has shape {} for {} {}",
               detail::op_name(call), i == 1 ? "weight" : "bias",
               t == nullptr ? "" : to_string(t->shape), width, what);
  }
}

void statistics(InferCall& call, int first, int count, const Shape& shape) {
  for (int i = first; i < first + count; ++i) {
    call.outputs[i].shape = shape;
    call.outputs[i].dtype = statistics_dtype(call.inputs[0]->dtype);
  }
}

Shape rows_of(const InferCall& call, const NormAttrs& attrs) {
  Shape rows;
  for (int i = 0; i < call.inputs[0]->rank() - attrs.rank; ++i)
    rows.push_back(call.inputs[0]->shape[i]);
  return rows;
}

}  // namespace

void layer_norm(InferCall& call) {
  const auto attrs = call.attrs.as<NormAttrs>();
  along_dim(call);
  check_affine(call, attrs.width, "normalised elements");
  statistics(call, 1, 2, rows_of(call, attrs));
}

void rms_norm(InferCall& call) {
  const auto attrs = call.attrs.as<NormAttrs>();
  along_dim(call);
  check_affine(call, attrs.width, "normalised elements");
  statistics(call, 1, 1, rows_of(call, attrs));
}

void group_norm(InferCall& call) {
  const auto attrs = call.attrs.as<NormAttrs>();
  const Shape& shape = call.inputs[0]->shape;
  WEFT_CHECK(ArgumentError, shape.rank() >= 2, "group_norm: needs [n, c, ...], got shape {}",
             to_string(shape));
  WEFT_CHECK(ArgumentError, attrs.groups > 0 && shape[1] % attrs.groups == 0,
             "group_norm: {} channels of shape {} do not divide into {} groups", shape[1],
             to_string(shape), attrs.groups);
  along_dim(call);
  check_affine(call, shape[1], "channels");
  statistics(call, 1, 2, {shape[0], attrs.groups});
}

/// dx like x; dweight and dbias of the elements that the row normalises, empty where there is none.
void norm_backward(InferCall& call) {
  const auto attrs = call.attrs.as<NormAttrs>();
  const TensorRef x = call.inputs[1];
  const int outputs = op_info(call.op).outputs;
  const int64_t width = call.op == OpId::group_norm_backward ? x->shape[1] : attrs.width;
  for (int i = 0; i < outputs; ++i) call.outputs[i].dtype = x->dtype;
  call.outputs[0].shape = x->shape;
  call.outputs[1].shape = {attrs.has_weight ? width : 0};
  if (outputs > 2) call.outputs[2].shape = {attrs.has_bias ? width : 0};
}

}  // namespace weft::inline v0::infer
