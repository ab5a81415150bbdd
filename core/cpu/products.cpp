#include <weft/core/cpu/products.hpp>

#include <weft/core/cpu/gemm.hpp>
#include <weft/core/cpu/packing.hpp>

namespace weft::inline v0::detail {

namespace {

/// Runs the call into `out`, over scratch memory where `out` is strided.
void run_into(Context& context, GemmCall& call, TensorRef out) {
  call.dtype = out->dtype;
  call.deterministic = context.deterministic();
  call.c = out->contiguous ? context.bytes(out)
                           : context.workspace(static_cast<size_t>(out->numel * out->item_size()));
  call.c_row_stride = call.n;
  gemm(call);
  if (!out->contiguous) unpack(context, static_cast<const std::byte*>(call.c), out);
}

}  // namespace

void matmul_kernel(Context& context, Inputs inputs, Outputs outputs) {
  const TensorRef a = inputs[0], b = inputs[1];
  const int a_rank = a->rank(), b_rank = b->rank();
  GemmCall call;
  // A vector is a row on the left and a column on the right.
  call.k = a->shape.back();
  call.m = a_rank == 1 ? 1 : a->shape[a_rank - 2];
  call.n = b_rank == 1 ? 1 : b->shape.back();
  call.a = {context.bytes(a), a_rank == 1 ? call.k : a->strides[a_rank - 2],
            a->strides[a_rank - 1]};
  call.b = {context.bytes(b), b->strides[b_rank == 1 ? 0 : b_rank - 2],
            b_rank == 1 ? 1 : b->strides[b_rank - 1]};
  const int dims = (a_rank > b_rank ? a_rank : b_rank) - 2;
  for (int d = 0; d < dims; ++d) {
    const int a_dim = d - (dims - (a_rank - 2)), b_dim = d - (dims - (b_rank - 2));
    const int64_t a_size = a_rank < 2 || a_dim < 0 ? 1 : a->shape[a_dim];
    const int64_t b_size = b_rank < 2 || b_dim < 0 ? 1 : b->shape[b_dim];
    call.batch.push_back(a_size == 1 ? b_size : a_size);
    call.a_batch.push_back(a_size == 1 ? 0 : a->strides[a_dim]);
    call.b_batch.push_back(b_size == 1 ? 0 : b->strides[b_dim]);
  }
  call.c_batch = contiguous_strides(call.batch);
  for (int64_t& stride : call.c_batch) stride *= call.m * call.n;
  run_into(context, call, outputs[0]);
}

void linear_kernel(Context& context, Inputs inputs, Outputs outputs) {
  const TensorRef x = inputs[0], weight = inputs[1], bias = inputs[2];
  const int rank = x->rank();
  GemmCall call;
  call.m = rank == 1 ? 1 : x->shape[rank - 2];
  call.k = weight->shape[1];
  call.n = weight->shape[0];
  call.a = {context.bytes(x), rank == 1 ? call.k : x->strides[rank - 2], x->strides[rank - 1]};
  call.b = {context.bytes(weight), weight->strides[1], weight->strides[0]};
  if (bias != nullptr) call.bias = packed(context, bias);
  for (int d = 0; d < rank - 2; ++d) {
    call.batch.push_back(x->shape[d]);
    call.a_batch.push_back(x->strides[d]);
    call.b_batch.push_back(0);
  }
  call.c_batch = contiguous_strides(call.batch);
  for (int64_t& stride : call.c_batch) stride *= call.m * call.n;
  run_into(context, call, outputs[0]);
}

}  // namespace weft::inline v0::detail
