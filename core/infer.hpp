// Shape rules: what the output of an op looks like, from the inputs' shapes alone. The meta device,
// backward, planners and the kernels' outputs all rest on them.
#pragma once

#include <weft/core/op.hpp>

namespace weft::inline v0 {

/// The dtype that the inputs promote to, by PyTorch's rule: tensors with dimensions first, then 0-d
/// tensors, then C++ numbers, each only where it is of a higher category. Null inputs are passed
/// over.
WEFT_API DType result_type(Inputs inputs);

namespace infer {
#define WEFT_OP(name, arity, outputs, rule, ...) WEFT_API void rule(InferCall& call);
#include <weft/core/ops.def>
}  // namespace infer

namespace detail {
/// "relu", from the call's row.
const char* op_name(const InferCall& call);
}  // namespace detail

}  // namespace weft::inline v0
