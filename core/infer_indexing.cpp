// Shape rules of joining and indexing.
#include <weft/core/base/check.hpp>
#include <weft/core/infer.hpp>
#include <weft/core/row_attrs.hpp>
#include <weft/core/view_attrs.hpp>

namespace weft::inline v0::infer {

namespace {

void check_index(const InferCall& call, const TensorRef index) {
  WEFT_CHECK(ArgumentError, index->dtype == DType::i64,
             "{}: indices are i64, got {}; convert them with .to(DType::i64)",
             detail::op_name(call), name_of(index->dtype));
}

void check_vector(const InferCall& call, const TensorRef index) {
  check_index(call, index);
  WEFT_CHECK(ArgumentError, index->rank() <= 1, "{}: indices need one dim, got shape {}",
             detail::op_name(call), to_string(index->shape));
}

void like_first(InferCall& call) {
  call.outputs[0].shape = call.inputs[0]->shape;
  call.outputs[0].dtype = call.inputs[0]->dtype;
}

void check_same_dtype(const InferCall& call, const TensorRef other) {
  WEFT_CHECK(ArgumentError, other->dtype == call.inputs[0]->dtype,
             "{}: inputs of dtypes {} and {}; convert one with .to(dtype)", detail::op_name(call),
             name_of(call.inputs[0]->dtype), name_of(other->dtype));
}

/// `index` may be smaller than x (outside `dim`) and than source, not larger.
void check_inside(const InferCall& call, const Shape& index, const Shape& outer, int skip) {
  bool fits = index.rank() == outer.rank();
  for (int i = 0; fits && i < index.rank(); ++i) fits = i == skip || index[i] <= outer[i];
  if (skip < 0)
    WEFT_CHECK(ArgumentError, fits, "{}: indices of shape {} do not fit into a source of shape {}",
               detail::op_name(call), to_string(index), to_string(outer));
  else
    WEFT_CHECK(ArgumentError, fits,
               "{}: indices of shape {} do not fit into shape {} outside dim {}",
               detail::op_name(call), to_string(index), to_string(outer), skip);
}

}  // namespace

/// The input's shape and dtype.
void same_shape(InferCall& call) { like_first(call); }

void index_select(InferCall& call) {
  const int dim = call.attrs.as<DimAttrs>().dim;
  check_vector(call, call.inputs[1]);
  like_first(call);
  if (call.outputs[0].shape.rank() > 0) call.outputs[0].shape[dim] = call.inputs[1]->numel;
}

void gather(InferCall& call) {
  const int dim = call.attrs.as<DimAttrs>().dim;
  check_index(call, call.inputs[1]);
  check_inside(call, call.inputs[1]->shape, call.inputs[0]->shape, dim);
  call.outputs[0].shape = call.inputs[1]->shape;
  call.outputs[0].dtype = call.inputs[0]->dtype;
}

void scatter(InferCall& call) {
  const int dim = call.attrs.as<DimAttrs>().dim;
  check_index(call, call.inputs[1]);
  check_same_dtype(call, call.inputs[2]);
  check_inside(call, call.inputs[1]->shape, call.inputs[0]->shape, dim);
  check_inside(call, call.inputs[1]->shape, call.inputs[2]->shape, -1);
  like_first(call);
}

void index_add(InferCall& call) {
  const int dim = call.attrs.as<DimAttrs>().dim;
  check_vector(call, call.inputs[1]);
  check_same_dtype(call, call.inputs[2]);
  Shape expected = call.inputs[0]->shape;
  if (expected.rank() > 0) expected[dim] = call.inputs[1]->numel;
  WEFT_CHECK(ArgumentError, call.inputs[2]->shape == expected,
             "index_add: source of shape {}, needs {} for {} indices along dim {} of {}",
             to_string(call.inputs[2]->shape), to_string(expected), call.inputs[1]->numel, dim,
             to_string(call.inputs[0]->shape));
  like_first(call);
}

/// weight [rows, d], indices of any shape.
void embedding(InferCall& call) {
  check_index(call, call.inputs[1]);
  WEFT_CHECK(ArgumentError, call.inputs[0]->rank() == 2,
             "embedding: weight needs shape [rows, d], got {}", to_string(call.inputs[0]->shape));
  call.outputs[0].shape = call.inputs[1]->shape;
  call.outputs[0].shape.push_back(call.inputs[0]->shape[1]);
  call.outputs[0].dtype = call.inputs[0]->dtype;
}

void embedding_backward(InferCall& call) {
  call.outputs[0].shape = {call.attrs.as<EmbeddingAttrs>().rows, call.inputs[0]->shape.back()};
  call.outputs[0].dtype = call.inputs[0]->dtype;
}

void one_hot(InferCall& call) {
  check_index(call, call.inputs[0]);
  call.outputs[0].shape = call.inputs[0]->shape;
  call.outputs[0].shape.push_back(call.attrs.as<DimAttrs>().extra);
  call.outputs[0].dtype = DType::i64;
}

void triangle(InferCall& call) {
  WEFT_CHECK(ArgumentError, call.inputs[0]->rank() >= 2,
             "{}: needs at least two dims, got shape {}", detail::op_name(call),
             to_string(call.inputs[0]->shape));
  like_first(call);
}

void pad(InferCall& call) {
  const auto pads = call.attrs.as<PadAttrs>();
  like_first(call);
  for (int i = 0; i < call.outputs[0].shape.rank(); ++i) {
    int64_t& size = call.outputs[0].shape[i];
    size += pads.before[i] + pads.after[i];
    WEFT_CHECK(ArgumentError, size >= 0, "pad: {} and {} take more from dim {} than shape {} has",
               pads.before[i], pads.after[i], i, to_string(call.inputs[0]->shape));
  }
}

void pad_backward(InferCall& call) {
  const auto pads = call.attrs.as<PadAttrs>();
  like_first(call);
  for (int i = 0; i < call.outputs[0].shape.rank(); ++i)
    call.outputs[0].shape[i] -= pads.before[i] + pads.after[i];
}

/// The inputs one after the other along a dim; the caller converted them to one dtype.
void cat(InferCall& call) {
  const int dim = call.attrs.as<DimAttrs>().dim;
  Shape shape = call.inputs[0]->shape;
  shape[dim] = 0;
  for (const TensorRef x : call.inputs) {
    bool fits = x->rank() == shape.rank();
    for (int i = 0; fits && i < shape.rank(); ++i) fits = i == dim || x->shape[i] == shape[i];
    WEFT_CHECK(ArgumentError, fits, "cat: shapes {} and {} differ outside dim {}",
               to_string(call.inputs[0]->shape), to_string(x->shape), dim);
    WEFT_CHECK(ArgumentError, x->dtype == call.inputs[0]->dtype,
               "cat: inputs of dtypes {} and {}; convert one with .to(dtype)",
               name_of(call.inputs[0]->dtype), name_of(x->dtype));
    shape[dim] += x->shape[dim];
  }
  call.outputs[0].shape = shape;
  call.outputs[0].dtype = call.inputs[0]->dtype;
}

void zero_scatter_slice(InferCall& call) {
  call.outputs[0].shape = call.attrs.as<ZeroScatterAttrs>().shape.shape();
  call.outputs[0].dtype = call.inputs[0]->dtype;
}

}  // namespace weft::inline v0::infer
