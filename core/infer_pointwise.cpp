// Shape rules of single pointwise families, and what their kernels report.
#include <weft/core/base/check.hpp>
#include <weft/core/cpu/pointwise_errors.hpp>
#include <weft/core/infer.hpp>

namespace weft::inline v0 {

namespace infer {

/// Any numbers, but no truth values.
void pointwise_arithmetic(InferCall& call) {
  pointwise(call);
  WEFT_CHECK(ArgumentError, call.outputs[0].dtype != DType::boolean,
             "{}: truth values are no numbers; use a logical op, or convert with .to(DType::i64)",
             detail::op_name(call));
}

/// Whole numbers and truth values.
void pointwise_whole(InferCall& call) {
  pointwise(call);
  WEFT_CHECK(ArgumentError, !is_floating(call.outputs[0].dtype),
             "{}: needs whole numbers or truth values, got {}", detail::op_name(call),
             name_of(call.outputs[0].dtype));
}

/// Input 0 chooses between inputs 1 and 2.
void where(InferCall& call) {
  WEFT_CHECK(ArgumentError, call.inputs[0]->dtype == DType::boolean,
             "where: the condition must be bool, got {}; compare it, as in ne(x, 0)",
             name_of(call.inputs[0]->dtype));
  pointwise(call);
  call.outputs[0].dtype = result_type(call.inputs.subspan(1));
}

}  // namespace infer

namespace detail {

void fail_division(const char* op) {
  fail<ArgumentError>("{}: division of whole numbers by zero", op);
}

}  // namespace detail

}  // namespace weft::inline v0
