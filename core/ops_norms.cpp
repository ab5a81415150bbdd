// Normalisation, as functions.
#include <limits>

#include <weft/core/base/check.hpp>
#include <weft/core/op.hpp>
#include <weft/core/ops.hpp>
#include <weft/core/row_attrs.hpp>

namespace weft::inline v0 {

namespace {

/// The last dims of x as `normalized_shape` names them.
NormAttrs norm_attrs(const char* op, const Tensor& x, const Shape& normalized_shape, double eps) {
  const int rank = normalized_shape.rank(), first = x.dim() - rank;
  bool fits = rank > 0 && first >= 0;
  for (int i = 0; fits && i < rank; ++i) fits = x.shape()[first + i] == normalized_shape[i];
  WEFT_CHECK(ArgumentError, fits, "{}: normalized_shape {} is not the end of shape {}", op,
             to_string(normalized_shape), to_string(x.shape()));
  NormAttrs attrs;
  attrs.width = normalized_shape.numel();
  attrs.eps = eps;
  attrs.rank = rank;
  return attrs;
}

double machine_epsilon(DType dtype) {
  switch (dtype) {
    case DType::f64: return std::numeric_limits<double>::epsilon();
    case DType::f16: return 0x1p-10;
    case DType::bf16: return 0x1p-7;
    default: return std::numeric_limits<float>::epsilon();
  }
}

}  // namespace

Tensor layer_norm(const Tensor& x, const Shape& normalized_shape, const Tensor& weight,
                  const Tensor& bias, double eps) {
  NormAttrs attrs = norm_attrs("layer_norm", x, normalized_shape, eps);
  attrs.has_weight = weight.defined();
  attrs.has_bias = bias.defined();
  const TensorRef refs[] = {x.checked(), weight.impl(), bias.impl()};
  Tensor outputs[3];
  dispatch_multi(OpId::layer_norm, Attrs(attrs), refs, outputs);
  return outputs[0];
}

Tensor rms_norm(const Tensor& x, const Shape& normalized_shape, const Tensor& weight,
                std::optional<double> eps) {
  NormAttrs attrs =
      norm_attrs("rms_norm", x, normalized_shape, eps.value_or(machine_epsilon(x.dtype())));
  attrs.has_weight = weight.defined();
  const TensorRef refs[] = {x.checked(), weight.impl()};
  Tensor outputs[2];
  dispatch_multi(OpId::rms_norm, Attrs(attrs), refs, outputs);
  return outputs[0];
}

Tensor group_norm(const Tensor& x, int64_t num_groups, const Tensor& weight, const Tensor& bias,
                  double eps) {
  NormAttrs attrs;
  attrs.groups = num_groups;
  attrs.eps = eps;
  attrs.has_weight = weight.defined();
  attrs.has_bias = bias.defined();
  const TensorRef refs[] = {x.checked(), weight.impl(), bias.impl()};
  Tensor outputs[3];
  dispatch_multi(OpId::group_norm, Attrs(attrs), refs, outputs);
  return outputs[0];
}

}  // namespace weft::inline v0
