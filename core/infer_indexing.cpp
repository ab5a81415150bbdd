// Shape rules of joining and indexing.
#include <weft/core/base/check.hpp>
#include <weft/core/infer.hpp>
#include <weft/core/row_attrs.hpp>
#include <weft/core/view_attrs.hpp>

namespace weft::inline v0::infer {

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
