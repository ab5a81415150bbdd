#include <weft/core/cpu/pointwise.hpp>

#include <weft/core/base/parallel.hpp>
#include <weft/core/cpu/walk.hpp>
#include <weft/core/infer.hpp>

namespace weft::inline v0::WEFT_LEVEL {

// Note [Pointwise kernels]
// A pointwise op is one functor, instantiated as a loop over packed elements of three types: float
// (also for the 16-bit floats), double, and int64 (for all whole numbers and truth values, cut to
// their width when stored). Inputs that are not packed elements of that type (other dtypes,
// strided, broadcast along the innermost dim) are loaded piece by piece into buffers on the stack
// first, and results leave the same way. That makes three loops an op instead of one for each
// combination of dtypes. What is packed and of the right type is passed as it is: no setup for a
// small tensor, no copy for a large one.

namespace {

/// The types that pointwise ops compute in.
enum class Compute : uint8_t { f32, f64, whole };

template <class C>
constexpr DType kStored = dtype_of<C>;

Block block_of(const PointwiseOp& op, Compute compute) {
  return compute == Compute::f32 ? op.f32 : compute == Compute::f64 ? op.f64 : op.whole;
}

Compute compute_type(const PointwiseOp& op, DType common) {
  if (common == DType::f64) return Compute::f64;
  return is_floating(common) || op.whole == nullptr ? Compute::f32 : Compute::whole;
}

/// Same dtype, same elements in the same order, and a dtype that is computed in: the loop can run
/// over the tensors' own memory.
bool is_direct(const PointwiseOp& op, Inputs inputs, TensorRef output, DType& dtype) {
  dtype = inputs[0]->dtype;
  if (dtype != DType::f32 && dtype != DType::f64 && (dtype != DType::i64 || !op.whole))
    return false;
  if (output->dtype != (op.truth ? DType::boolean : dtype) || !output->contiguous) return false;
  for (const TensorRef input : inputs)
    if (input->dtype != dtype || !input->contiguous || input->numel != output->numel) return false;
  return true;
}

void run_direct(const PointwiseOp& op, Block block, Context& context, const Attrs& attrs,
                Inputs inputs, TensorRef output, int64_t item) {
  const void* in[kMostOperands];
  for (size_t k = 0; k < inputs.size(); ++k) in[k] = context.bytes(inputs[k]);
  std::byte* out = context.bytes(output);
  if (output->numel <=
      op.grain) {  // most calls on small tensors: nothing between them and the loop
    if (output->numel > 0) block(in, out, output->numel, attrs);
    return;
  }
  const int64_t out_item = op.truth ? 1 : item;
  const size_t count = inputs.size();
  parallel_for(output->numel, op.grain, [&](int64_t begin, int64_t end) {
    const void* from[kMostOperands];
    for (size_t k = 0; k < count; ++k)
      from[k] = static_cast<const std::byte*>(in[k]) + begin * item;
    block(from, out + begin * out_item, end - begin, attrs);
  });
}

/// How one operand takes part in the blocks.
enum class Mode : uint8_t { direct, constant, converted };

/// Runs the blocks of elements [begin, end) of a walk, computing in C.
template <class C>
void run_blocks(const PointwiseOp& op, Block block, const Attrs& attrs, const Walk& walk,
                int64_t begin, int64_t end) {
  alignas(64) C buffers[kMostOperands - 1][kBlockElements];
  alignas(64) std::byte results[kBlockElements * sizeof(C)];
  const std::byte* filled[kMostOperands - 1] = {};  // element that a constant's buffer holds
  const int last = walk.count - 1;
  const DType result_dtype = op.truth ? DType::boolean : kStored<C>;
  Mode modes[kMostOperands];
  bool whole_runs = true;
  for (int k = 0; k < walk.count; ++k) {
    const DType wanted = k == last ? result_dtype : kStored<C>;
    const int64_t stride = walk.inner_stride(k);
    modes[k] = walk.operands[k].dtype == wanted && stride == size_of(wanted) ? Mode::direct
               : stride == 0 && k != last                                    ? Mode::constant
                                                                             : Mode::converted;
    whole_runs &= modes[k] == Mode::direct;
  }
  const int64_t longest = whole_runs ? walk.inner() : kBlockElements;
  for_runs(walk, begin, end, [&](std::byte* const* pointers, int64_t n) {
    for (int64_t done = 0; done < n; done += longest) {
      const int64_t size = longest < n - done ? longest : n - done;
      const void* from[kMostOperands - 1];
      for (int k = 0; k < last; ++k) {
        const std::byte* at = pointers[k] + done * walk.inner_stride(k);
        from[k] = modes[k] == Mode::direct ? static_cast<const void*>(at) : buffers[k];
        if (modes[k] == Mode::direct || (modes[k] == Mode::constant && filled[k] == at)) continue;
        // A constant is filled once for all rows that see the same element.
        const int64_t needed =
            modes[k] == Mode::converted
                ? size
                : (walk.inner() < kBlockElements ? walk.inner() : kBlockElements);
        load_run(buffers[k], at, walk.operands[k].dtype, walk.inner_stride(k), needed);
        if (modes[k] == Mode::constant) filled[k] = at;
      }
      std::byte* to = pointers[last] + done * walk.inner_stride(last);
      const bool direct = modes[last] == Mode::direct;
      block(from, direct ? static_cast<void*>(to) : results, size, attrs);
      if (direct) continue;
      if (op.truth)
        store_run(to, walk.operands[last].dtype, walk.inner_stride(last),
                  reinterpret_cast<const bool*>(results), size);
      else
        store_run(to, walk.operands[last].dtype, walk.inner_stride(last),
                  reinterpret_cast<const C*>(results), size);
    }
  });
}

/// The same for short rows, several of which go into a block.
template <class C>
void run_short_rows(const PointwiseOp& op, Block block, const Attrs& attrs, const Walk& walk,
                    int64_t begin, int64_t end) {
  alignas(64) C buffers[kMostOperands - 1][kBlockElements];
  alignas(64) std::byte results[kBlockElements * sizeof(C)];
  const int last = walk.count - 1;
  const DType result_dtype = op.truth ? DType::boolean : kStored<C>;
  bool direct[kMostOperands];
  for (int k = 0; k < walk.count; ++k)
    direct[k] =
        walk.operands[k].dtype == (k == last ? result_dtype : kStored<C>)&&is_dense(walk, k);
  for (; begin < end; begin += kBlockElements) {
    const int64_t size = kBlockElements < end - begin ? kBlockElements : end - begin;
    const void* from[kMostOperands - 1];
    for (int k = 0; k < last; ++k) {
      from[k] = buffers[k];
      if (direct[k])
        from[k] = walk.operands[k].data + begin * static_cast<int64_t>(sizeof(C));
      else
        load_elements(buffers[k], walk, k, begin, size);
    }
    std::byte* to = walk.operands[last].data + begin * size_of(result_dtype);
    block(from, direct[last] ? static_cast<void*>(to) : results, size, attrs);
    if (direct[last]) continue;
    if (op.truth)
      store_elements(walk, last, begin, reinterpret_cast<const bool*>(results), size);
    else
      store_elements(walk, last, begin, reinterpret_cast<const C*>(results), size);
  }
}

template <class C>
void run_walk(const PointwiseOp& op, Block block, const Attrs& attrs, const Walk& walk) {
  const bool short_rows = has_short_rows(walk);
  parallel_for(walk.numel, op.grain, [&](int64_t begin, int64_t end) {
    if (short_rows)
      run_short_rows<C>(op, block, attrs, walk, begin, end);
    else
      run_blocks<C>(op, block, attrs, walk, begin, end);
  });
}

}  // namespace

void run_pointwise(const PointwiseOp& op, Context& context, const Attrs& attrs, Inputs inputs,
                   TensorRef output) {
  DType dtype;
  if (is_direct(op, inputs, output, dtype)) [[likely]] {
    const Compute compute = dtype == DType::f32   ? Compute::f32
                            : dtype == DType::f64 ? Compute::f64
                                                  : Compute::whole;
    run_direct(op, block_of(op, compute), context, attrs, inputs, output, size_of(dtype));
    return;
  }
  if (output->numel == 0) return;
  const Compute compute = compute_type(op, result_type(inputs));
  const Block block = block_of(op, compute);
  const Walk walk(context, inputs, output);
  switch (compute) {
    case Compute::f32: run_walk<float>(op, block, attrs, walk); break;
    case Compute::f64: run_walk<double>(op, block, attrs, walk); break;
    case Compute::whole: run_walk<int64_t>(op, block, attrs, walk); break;
  }
}

}  // namespace weft::inline v0::WEFT_LEVEL
