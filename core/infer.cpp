// Shape rules that several families share.
#include <weft/core/infer.hpp>

#include <weft/core/base/check.hpp>

namespace weft::inline v0 {

namespace {

enum Category { kBoolean, kInteger, kReal };

Category category(DType dtype) {
  return dtype == DType::boolean ? kBoolean : is_floating(dtype) ? kReal : kInteger;
}

/// Promotion inside one class of operands (tensors with dimensions, 0-d ones, numbers).
struct ClassType {
  bool any = false;
  DType dtype = DType::boolean;
  void add(DType other) {
    dtype = any ? promote_types(dtype, other) : other;
    any = true;
  }
};

DType combine(const ClassType& strong, const ClassType& weak) {
  if (!strong.any) return weak.dtype;
  if (!weak.any || category(strong.dtype) >= category(weak.dtype)) return strong.dtype;
  return promote_types(strong.dtype, weak.dtype);
}

}  // namespace

DType result_type(Inputs inputs) {
  // The common case first: all the same.
  const TensorMeta* first = nullptr;
  bool equal = true;
  for (const TensorRef t : inputs) {
    if (t == nullptr) continue;
    if (first == nullptr)
      first = t;
    else
      equal &= t->dtype == first->dtype;
  }
  if (equal && first != nullptr) return first->dtype;
  ClassType dimensioned, zero_dim, number;
  for (const TensorRef t : inputs) {
    if (t == nullptr) continue;
    (t->wrapped_number ? number : t->rank() == 0 ? zero_dim : dimensioned).add(t->dtype);
  }
  ClassType weak{zero_dim.any || number.any, combine(zero_dim, number)};
  return combine(dimensioned, weak);
}

namespace detail {
const char* op_name(const InferCall& call) { return op_info(call.op).name; }
}  // namespace detail

namespace infer {

namespace {

Shape broadcast_inputs(const InferCall& call) {
  Shape shape = call.inputs[0]->shape;
  for (size_t i = 1; i < call.inputs.size(); ++i) {
    const TensorRef t = call.inputs[i];
    if (t != nullptr && !(t->shape == shape))
      shape = broadcast_shapes(detail::op_name(call), shape, t->shape);
  }
  return shape;
}

}  // namespace

/// Broadcast shape, promoted dtype.
void pointwise(InferCall& call) {
  call.outputs[0].shape = broadcast_inputs(call);
  call.outputs[0].dtype = result_type(call.inputs);
}

/// The same, whole numbers become f32: division, exp, sqrt …
void pointwise_real(InferCall& call) {
  pointwise(call);
  if (!is_floating(call.outputs[0].dtype)) call.outputs[0].dtype = DType::f32;
}

/// The same for floating-point inputs alone.
void pointwise_float(InferCall& call) {
  pointwise(call);
  WEFT_CHECK(ArgumentError, is_floating(call.outputs[0].dtype),
             "{}: needs a floating-point tensor, got {}; convert it with .to(DType::f32)",
             detail::op_name(call), name_of(call.outputs[0].dtype));
}

/// Truth values.
void pointwise_compare(InferCall& call) {
  call.outputs[0].shape = broadcast_inputs(call);
  call.outputs[0].dtype = DType::boolean;
}

/// The shape and dtype are those of the output that the caller made.
void factory(InferCall&) {}

/// Everything that is changed has the shape of input 0.
void update(InferCall& call) {
  for (int i = 0; i < op_info(call.op).outputs; ++i) {
    call.outputs[i].shape = call.inputs[0]->shape;
    call.outputs[i].dtype = call.inputs[0]->dtype;
  }
}

/// Another dtype: the attribute says which.
void cast(InferCall& call) {
  call.outputs[0].shape = call.inputs[0]->shape;
  call.outputs[0].dtype = call.attrs.as<DType>();
}

}  // namespace infer

}  // namespace weft::inline v0
