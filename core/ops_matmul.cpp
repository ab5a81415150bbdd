// Matrix products: shape rules and public functions.
#include <weft/core/base/check.hpp>
#include <weft/core/infer.hpp>
#include <weft/core/ops.hpp>

namespace weft::inline v0 {

namespace {

void check_same_dtype(const char* op, TensorRef a, TensorRef b) {
  WEFT_CHECK(ArgumentError, a->dtype == b->dtype,
             "{}: the inputs have different dtypes, {} and {}; convert one with .to(dtype)", op,
             name_of(a->dtype), name_of(b->dtype));
}

/// All but the last `count` dims.
Shape leading(const Shape& shape, int count) {
  return Shape(std::span(shape.begin(), static_cast<size_t>(shape.rank() - count)));
}

}  // namespace

namespace infer {

/// [.., m, k] x [.., k, n]: the leading dims broadcast, vectors lose the dim that they have not.
void matmul(InferCall& call) {
  const TensorRef a = call.inputs[0], b = call.inputs[1];
  WEFT_CHECK(ArgumentError, a->rank() >= 1 && b->rank() >= 1,
             "matmul: needs at least one dimension on both sides: {} x {}", to_string(a->shape),
             to_string(b->shape));
  check_same_dtype("matmul", a, b);
  WEFT_CHECK(ArgumentError, a->dtype != DType::boolean,
             "matmul: there is no product of bool tensors; convert them with .to(dtype)");
  WEFT_CHECK(ArgumentError, a->shape.back() == b->shape[b->rank() == 1 ? 0 : b->rank() - 2],
             "matmul: inner sizes differ: {} x {}", to_string(a->shape), to_string(b->shape));
  Shape shape = broadcast_shapes("matmul", leading(a->shape, a->rank() == 1 ? 1 : 2),
                                 leading(b->shape, b->rank() == 1 ? 1 : 2));
  if (a->rank() > 1) shape.push_back(a->shape[a->rank() - 2]);
  if (b->rank() > 1) shape.push_back(b->shape.back());
  call.outputs[0].shape = shape;
  call.outputs[0].dtype = a->dtype;
}

/// x [.., in], weight [out, in], bias [out] or none.
void linear(InferCall& call) {
  const TensorRef x = call.inputs[0], weight = call.inputs[1], bias = call.inputs[2];
  WEFT_CHECK(ArgumentError, weight->rank() == 2,
             "linear: the weight must have the shape [out, in], got {}", to_string(weight->shape));
  WEFT_CHECK(ArgumentError, x->rank() >= 1 && x->shape.back() == weight->shape[1],
             "linear: the input's last size must be the weight's: {} x {} transposed",
             to_string(x->shape), to_string(weight->shape));
  check_same_dtype("linear", x, weight);
  WEFT_CHECK(ArgumentError, x->dtype != DType::boolean,
             "linear: there is no product of bool tensors; convert them with .to(dtype)");
  Shape shape = leading(x->shape, 1);
  shape.push_back(weight->shape[0]);
  call.outputs[0].shape = shape;
  call.outputs[0].dtype = x->dtype;
  if (bias == nullptr) return;
  check_same_dtype("linear", x, bias);
  WEFT_CHECK(ArgumentError, bias->shape == Shape({weight->shape[0]}),
             "linear: the bias must have the shape [{}], got {}", weight->shape[0],
             to_string(bias->shape));
}

}  // namespace infer

Tensor matmul(const Tensor& a, const Tensor& b) {
  const TensorRef refs[] = {a.checked(), b.checked()};
  return dispatch(OpId::matmul, Attrs(), refs);
}

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  const TensorRef refs[] = {x.checked(), weight.checked(), bias.impl()};
  return dispatch(OpId::linear, Attrs(), refs);
}

Tensor outer(const Tensor& a, const Tensor& b) {
  WEFT_CHECK(ArgumentError, a.dim() == 1 && b.dim() == 1, "outer: needs two vectors, got {} and {}",
             to_string(a.shape()), to_string(b.shape()));
  return mul(unsqueeze(a, 1), b);
}

Tensor addmm(const Tensor& c, const Tensor& a, const Tensor& b, double beta, double alpha) {
  WEFT_CHECK(ArgumentError, a.dim() == 2 && b.dim() == 2, "addmm: needs two matrices, got {} x {}",
             to_string(a.shape()), to_string(b.shape()));
  // A vector that is added as it is can ride along with the product.
  if (beta == 1.0 && alpha == 1.0 && c.shape() == Shape({b.size(1)}) && c.dtype() == a.dtype())
    return linear(a, transpose(b, 0, 1), c);
  Tensor product = matmul(a, b);
  WEFT_CHECK(ArgumentError,
             broadcast_shapes("addmm", c.shape(), product.shape()) == product.shape(),
             "addmm: shape {} does not broadcast to that of the product, {}", to_string(c.shape()),
             to_string(product.shape()));
  if (alpha != 1.0) product = mul(product, Scalar(alpha));
  // With beta = 0 not even a NaN of c gets through.
  if (beta == 0.0) return product;
  return add(beta == 1.0 ? c : mul(c, Scalar(beta)), product);
}

}  // namespace weft::inline v0
