// Scaled dot-product attention: checks, the fused op, and the composition of other ops that serves
// where there is none (f64, dropout, a mask that wants a gradient).
#include <cmath>
#include <limits>

#include <weft/core/attention_attrs.hpp>
#include <weft/core/base/check.hpp>
#include <weft/core/infer.hpp>
#include <weft/core/ops.hpp>

namespace weft::inline v0 {

namespace {

constexpr const char* kName = "scaled_dot_product_attention";

int64_t heads(const Tensor& t) { return t.dim() < 3 ? 1 : t.size(-3); }

/// Same leading dims but for the heads, whose number may be a multiple of keys' and values'.
bool same_batch(const Tensor& q, const Tensor& k) {
  for (int d = 0; d + 3 < q.dim(); ++d)
    if (q.size(d) != k.size(d)) return false;
  return heads(q) > 0 && heads(k) > 0 && heads(q) % heads(k) == 0;
}

void check_inputs(const Tensor& q, const Tensor& k, const Tensor& v,
                  const AttentionOptions& options) {
  const auto shapes = [&] {
    return to_string(q.shape()) + ", " + to_string(k.shape()) + ", " + to_string(v.shape());
  };
  WEFT_CHECK(ArgumentError, q.dim() >= 2 && q.dim() == k.dim() && q.dim() == v.dim(),
             "{}: query, key and value need the same number of dims, at least 2: {}", kName,
             shapes());
  WEFT_CHECK(ArgumentError,
             is_floating(q.dtype()) && q.dtype() == k.dtype() && q.dtype() == v.dtype(),
             "{}: query, key and value need the same floating-point dtype, got {}, {} and {}",
             kName, name_of(q.dtype()), name_of(k.dtype()), name_of(v.dtype()));
  WEFT_CHECK(ArgumentError, q.size(-1) == k.size(-1) && q.size(-1) > 0,
             "{}: the last sizes of query and key must be equal and not 0: {}", kName, shapes());
  WEFT_CHECK(ArgumentError, k.size(-2) == v.size(-2),
             "{}: key and value differ in their length: {}", kName, shapes());
  WEFT_CHECK(ArgumentError, same_batch(q, k) && same_batch(q, v) && heads(k) == heads(v),
             "{}: batch and heads of query, key and value do not fit together (heads of the query "
             "may be a multiple of the others'): {}",
             kName, shapes());
  WEFT_CHECK(ArgumentError, options.dropout_p >= 0.0 && options.dropout_p < 1.0,
             "{}: dropout_p {} is not in [0, 1)", kName, options.dropout_p);
  if (!options.attn_mask.defined()) return;
  WEFT_CHECK(ArgumentError, !options.is_causal,
             "{}: is_causal and an attn_mask exclude each other; put the causal part into the mask",
             kName);
  const Tensor& mask = options.attn_mask;
  WEFT_CHECK(ArgumentError, mask.dtype() == DType::boolean || mask.dtype() == q.dtype(),
             "{}: the mask must be bool or {}, got {}", kName, name_of(q.dtype()),
             name_of(mask.dtype()));
}

/// [.., l, s] with the batch and heads of q.
Shape score_shape(const Tensor& q, const Tensor& k) {
  Shape shape = q.shape();
  shape[shape.rank() - 1] = k.size(-2);
  return shape;
}

/// What is added to or chosen from the scores: undefined for nothing, else [.., l, s] or less.
Tensor whole_mask(const Tensor& q, const Tensor& k, const AttentionOptions& options) {
  if (!options.is_causal) return options.attn_mask;
  const TensorOptions on_device{.dtype = DType::i64, .device = q.device()};
  const Tensor rows = arange(0, q.size(-2), 1, on_device),
               columns = arange(0, k.size(-2), 1, on_device);
  return ge(unsqueeze(rows, 1), columns);
}

Tensor composed(const Tensor& q, Tensor k, Tensor v, const AttentionOptions& options,
                double scale) {
  if (const int64_t group = heads(q) / heads(k); group > 1) {
    k = repeat_interleave(k, group, -3);
    v = repeat_interleave(v, group, -3);
  }
  Tensor scores = mul(matmul(q, transpose(k, -1, -2)), Scalar(scale));
  const Tensor mask = whole_mask(q, k, options);
  Tensor weights;
  if (mask.defined() && mask.dtype() == DType::boolean) {
    // A row that may attend to nothing gets zeros, not the softmax of nothing.
    scores = where(mask, scores, Scalar(-std::numeric_limits<double>::infinity()));
    const Tensor some = any(mask, {.dim = -1, .keepdim = true});
    weights = where(some, softmax(scores, -1), Scalar(0.0));
  } else {
    weights = softmax(mask.defined() ? add(scores, mask) : scores, -1);
  }
  if (options.dropout_p > 0.0) weights = dropout(weights, options.dropout_p, true);
  return matmul(weights, v);
}

/// Fewer than three dims become three, so that the kernel always finds heads.
Tensor with_heads(const Tensor& t) { return t.dim() == 2 ? unsqueeze(t, 0) : t; }

}  // namespace

namespace infer {

/// q [.., h, l, d], k [.., g, s, d], v [.., g, s, e], mask [.., h, l, s] or none: the result, and
/// (private) the logarithms of the sums of exponentials.
void attention(InferCall& call) {
  const TensorRef q = call.inputs[0], v = call.inputs[2];
  Shape shape = q->shape;
  shape[shape.rank() - 1] = v->shape.back();
  call.outputs[0].shape = shape;
  call.outputs[0].dtype = q->dtype;
  shape.erase(shape.rank() - 1);
  call.outputs[1].shape = shape;
  call.outputs[1].dtype = DType::f32;
}

/// Gradients of q, k and v (inputs 1, 2 and 3).
void attention_backward(InferCall& call) {
  for (int i = 0; i < 3; ++i) {
    call.outputs[i].shape = call.inputs[static_cast<size_t>(i) + 1]->shape;
    call.outputs[i].dtype = call.inputs[static_cast<size_t>(i) + 1]->dtype;
  }
}

}  // namespace infer

namespace detail {

void attention_backward(const Tensor& gradient, const Tensor& q, const Tensor& k, const Tensor& v,
                        const Tensor& mask, const Tensor& out, const Tensor& log_sums,
                        const AttentionAttrs& attrs, Tensor (&results)[3]) {
  const TensorRef refs[] = {gradient.checked(), q.checked(),   k.checked(),       v.checked(),
                            mask.impl(),        out.checked(), log_sums.checked()};
  dispatch_multi(OpId::attention_backward, Attrs(attrs), refs, results);
}

}  // namespace detail

Tensor scaled_dot_product_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                    const AttentionOptions& options) {
  check_inputs(q, k, v, options);
  const double scale = options.scale.value_or(1.0 / std::sqrt(static_cast<double>(q.size(-1))));
  const Shape scores = score_shape(q, k);
  Tensor mask = options.attn_mask;
  if (mask.defined())
    WEFT_CHECK(ArgumentError, broadcast_shapes(kName, mask.shape(), scores) == scores,
               "{}: the mask {} does not broadcast to the scores {}", kName,
               to_string(mask.shape()), to_string(scores));
  if (q.dtype() == DType::f64 || options.dropout_p > 0.0 ||
      (mask.defined() && mask.requires_grad()))
    return composed(q, k, v, options, scale);
  if (mask.defined()) mask = with_heads(expand(mask, scores));
  const Tensor query = with_heads(q), key = with_heads(k), value = with_heads(v);
  const TensorRef refs[] = {query.checked(), key.checked(), value.checked(), mask.impl()};
  Tensor outputs[2];
  dispatch_multi(OpId::attention, Attrs(AttentionAttrs{scale, options.is_causal}), refs, outputs);
  return q.dim() == 2 ? squeeze(outputs[0], 0) : outputs[0];
}

}  // namespace weft::inline v0
