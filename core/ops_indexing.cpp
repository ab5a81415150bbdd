// Indexing, as functions.
#include <weft/core/base/check.hpp>
#include <weft/core/op.hpp>
#include <weft/core/ops.hpp>
#include <weft/core/ops_internal.hpp>
#include <weft/core/row_attrs.hpp>

namespace weft::inline v0 {

namespace {

/// i32 indices are converted; the shape rules refuse all others but i64.
Tensor as_index(const Tensor& index) {
  return index.dtype() == DType::i32 ? index.to(DType::i64) : index;
}

Tensor run(OpId op, int64_t dim, const Tensor& x, const Tensor& index) {
  const Tensor wide = as_index(index);
  const TensorRef refs[] = {x.checked(), wide.checked()};
  return dispatch(op, Attrs(DimAttrs{normalize_dim(op_info(op).name, dim, x.dim())}), refs);
}

Tensor run(OpId op, int64_t dim, const Tensor& x, const Tensor& index, const Tensor& source) {
  const Tensor wide = as_index(index);
  const TensorRef refs[] = {x.checked(), wide.checked(), source.checked()};
  return dispatch(op, Attrs(DimAttrs{normalize_dim(op_info(op).name, dim, x.dim())}), refs);
}

}  // namespace

Tensor index_select(const Tensor& x, int64_t dim, const Tensor& index) {
  return run(OpId::index_select, dim, x, index);
}
Tensor gather(const Tensor& x, int64_t dim, const Tensor& index) {
  return run(OpId::gather, dim, x, index);
}
Tensor scatter(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& source) {
  return run(OpId::scatter, dim, x, index, source);
}
Tensor scatter_add(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& source) {
  return run(OpId::scatter_add, dim, x, index, source);
}
Tensor index_add(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& source) {
  return run(OpId::index_add, dim, x, index, source);
}

Tensor embedding(const Tensor& indices, const Tensor& weight, std::optional<int64_t> padding_idx) {
  const Tensor wide = as_index(indices);
  EmbeddingAttrs attrs;
  attrs.rows = weight.dim() > 0 ? weight.shape()[0] : 0;
  if (padding_idx.has_value()) {
    WEFT_CHECK(ArgumentError, *padding_idx >= -attrs.rows && *padding_idx < attrs.rows,
               "embedding: padding_idx {} is out of range for {} rows", *padding_idx, attrs.rows);
    attrs.padding_idx = *padding_idx < 0 ? *padding_idx + attrs.rows : *padding_idx;
  }
  const TensorRef refs[] = {weight.checked(), wide.checked()};
  return dispatch(OpId::embedding, Attrs(attrs), refs);
}

Tensor one_hot(const Tensor& indices, int64_t num_classes) {
  WEFT_CHECK(ArgumentError, num_classes > 0, "one_hot: {} classes; at least 1", num_classes);
  const Tensor wide = as_index(indices);
  const TensorRef ref = wide.checked();
  return dispatch(OpId::one_hot, Attrs(DimAttrs{0, false, num_classes}), Inputs(&ref, 1));
}

namespace detail {

Tensor embedding_backward(const Tensor& grad, const Tensor& indices, int64_t rows,
                          int64_t padding_idx) {
  const TensorRef refs[] = {grad.checked(), indices.checked()};
  return dispatch(OpId::embedding_backward, Attrs(EmbeddingAttrs{rows, padding_idx}), refs);
}

void fail_index(const char* op, int64_t index, int dim, int64_t size) {
  fail<ArgumentError>("{}: index {} is out of range for dim {} of size {}", op, index, dim, size);
}

}  // namespace detail

}  // namespace weft::inline v0
