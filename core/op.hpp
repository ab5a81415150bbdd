// Operators as data: identity, attributes, rules, tables. core/ops.def has a row for each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include <weft/core/tensor.hpp>

namespace weft::inline v0 {

/// Identity of an operator: its place in the tables. Numbers from `kCount` on belong to
/// register_op.
enum class OpId : uint16_t {
#define WEFT_OP(name, ...) name,
#include <weft/core/ops.def>
  kCount
};

/// Arguments of an op that are no tensors: any trivially copyable struct of up to 128 bytes.
class Attrs {
 public:
  Attrs() = default;
  template <class T>
  requires(!std::is_same_v<std::remove_cvref_t<T>, Attrs>) explicit Attrs(const T& value) {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= sizeof(bytes_) &&
                  alignof(T) <= 8);
    std::memcpy(bytes_, &value, sizeof(T));
  }
  template <class T>
  T as() const {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= sizeof(bytes_) &&
                  alignof(T) <= 8);
    T value;
    std::memcpy(static_cast<void*>(&value), bytes_, sizeof(T));
    return value;
  }

 private:
  alignas(8) std::byte bytes_[128];
};

/// A borrowed tensor. In `dispatch` it is the TensorMeta part of a TensorImpl; a kernel may be
/// handed a bare copy.
using TensorRef = const TensorMeta*;
using Inputs = std::span<const TensorRef>;
using Outputs = std::span<const TensorRef>;

/// What a kernel may use beside its arguments. It allocates only through it.
class WEFT_API Context {
 public:
  Context(Device device, ptrdiff_t delta, Stream* stream, bool deterministic)
      : device_(device), delta_(delta), stream_(stream), deterministic_(deterministic) {}
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  Device device() const { return device_; }
  Stream* stream() const { return stream_; }
  /// Results must be equal to the bit from run to run and for any number of threads.
  bool deterministic() const { return deterministic_; }
  /// The elements of `t` as the kernel may touch them (on sim another address than the tensor's).
  template <class T>
  T* data(TensorRef t) const {
    return reinterpret_cast<T*>(t->data + delta_);
  }
  std::byte* bytes(TensorRef t) const { return t->data + delta_; }
  /// Scratch memory, 64-byte aligned, valid until the kernel returns.
  std::byte* workspace(size_t bytes);

 private:
  Device device_;
  ptrdiff_t delta_;
  Stream* stream_;
  bool deterministic_;
  std::vector<Storage> scratch_;
};

using KernelFn = void (*)(Context&, const Attrs&, Inputs, Outputs);

/// What shape inference fills in for one output.
struct OutputSpec {
  Shape shape;
  DType dtype = DType::f32;
  Strides strides;     ///< of a view
  int64_t offset = 0;  ///< of a view, in elements from the first element of input 0
};

/// One call as shape inference sees it. `inputs` may hold null for optional ones.
struct InferCall {
  OpId op;
  const Attrs& attrs;
  Inputs inputs;
  OutputSpec* outputs;  ///< as many as the row says
};
using InferFn = void (*)(InferCall&);

class VjpContext;
using VjpFn = void (*)(VjpContext&);

/// Properties of a row, or-ed together.
enum OpTraits : uint32_t {
  kNoTraits = 0,
  kPointwise = 1,    ///< same place in, same place out; inputs broadcast and may differ in dtype
  kViewOp = 2,       ///< output 0 shares the storage of input 0; there is no kernel
  kNeedsValues = 4,  ///< the result's shape depends on values: no meta
  kNoSecond = 8,     ///< a second derivative is an error
  kNotDifferentiable = 16,  ///< results never require grad
  kFactory = 32,            ///< no input tensor; shape, dtype and device come from the call
};

/// Bit sets that say what the node keeps: inputs in the lower half, outputs in the upper.
constexpr uint32_t kSaveNone = 0;
constexpr uint32_t save_in(int i) { return 1u << i; }
constexpr uint32_t save_out(int i) { return 1u << (16 + i); }

/// One row: everything the runtime knows about an op.
struct OpInfo {
  const char* name = "";
  int8_t arity = 1;    ///< number of input tensors, optional ones counted; -1: any number
  int8_t outputs = 1;  ///< number of outputs, private ones counted; -1: the call says
  uint32_t saves = kSaveNone;
  uint32_t traits = kNoTraits;
  uint32_t optional = 0;  ///< bit i: input i may be absent
  InferFn infer = nullptr;
  VjpFn vjp = nullptr;
};

/// The row of `op`. Throws ArgumentError for a number that no op has.
WEFT_API const OpInfo& op_info(OpId op);

/// The op with that name. Throws ArgumentError, with the nearest name.
WEFT_API OpId find_op(const std::string& name);

/// All ops, those of register_op included.
WEFT_API std::vector<OpId> all_ops();

/// Kernels of an op by device; null where there is none. sim uses the CPU's.
struct OpKernels {
  KernelFn cpu = nullptr;
  KernelFn cuda = nullptr;
};

/// Adds an op at run time: it gets meta, autograd, checks and the op tests as the built-in ones do.
/// `info.name` must be new and must live as long as the process; `info.infer` is required; kernels
/// may be left out for views alone. Throws ArgumentError. Thread-safe.
WEFT_API OpId register_op(const OpInfo& info, const OpKernels& kernels);

/// Runs an op: checks arity, devices and residency, infers shapes, allocates, runs the kernel (none
/// on meta) and records it where gradients are on. `inputs` are borrowed; null for absent ones.
WEFT_API Tensor dispatch(OpId op, const Attrs& attrs, Inputs inputs);

/// The same for an op with several outputs; `outputs` has as many as the row says.
WEFT_API void dispatch_multi(OpId op, const Attrs& attrs, Inputs inputs, std::span<Tensor> outputs);

/// A view op with several outputs, all of which share the storage of `input`.
WEFT_API void dispatch_views(OpId op, const Attrs& attrs, const Tensor& input,
                             std::span<Tensor> outputs);

/// The same, writing into `out`, which must have the inferred shape. Raises the version. Recorded
/// as an in-place change where gradients are on: see Tensor::add_ for what is refused.
WEFT_API void dispatch_into(OpId op, const Attrs& attrs, Inputs inputs, Tensor& out);

/// An op that rewrites tensors of the caller (the steps of optimizers): `outputs` are what it
/// changes and may read, undefined where the row's call leaves one out. Checks arity, devices and
/// dtypes of the row's rule, raises the versions, records nothing.
WEFT_API void dispatch_update(OpId op, const Attrs& attrs, Inputs inputs,
                              std::span<Tensor> outputs);

/// A factory op: no input, shape, dtype and device given. Never recorded.
WEFT_API Tensor dispatch_factory(OpId op, const Attrs& attrs, const Shape& shape,
                                 const TensorOptions& options);

/// A new tensor without values. Throws ArgumentError for negative sizes, OutOfMemory naming `op`.
WEFT_API Tensor empty_for(const char* op, const Shape& shape, DType dtype, Device device);

/// A tensor over part of an existing storage; offset in elements.
WEFT_API Tensor tensor_over(const Storage& storage, const Shape& shape, const Strides& strides,
                            int64_t offset, DType dtype);

namespace detail {

/// The impl behind a ref that came from a Tensor.
inline TensorImpl* impl_of(TensorRef ref) {
  return static_cast<TensorImpl*>(const_cast<TensorMeta*>(ref));
}

/// Gives `target` the memory, shape, dtype and device of `source` and keeps what makes it a leaf:
/// its identity, requires_grad, hooks. The gradient is dropped where it no longer fits. Whatever
/// was saved of the old contents is out of date (see Tensor::version).
WEFT_API void replace_contents(Tensor& target, const Tensor& source);

/// Hook of autograd: appends a node for a call that just ran. `in_place` marks outputs[0] as
/// inputs[0] rewritten.
void record(OpId op, const Attrs& attrs, Inputs inputs, std::span<Tensor> outputs, bool in_place);

/// Hook of autograd: the name of what a node computes, for people: "Add", "LayerNorm".
std::string node_name(const GraphNode* node);

/// What the current thread does beside computing; one word, so that the fast path is one test.
enum ThreadFlags : uint32_t {
  kGradEnabled = 1,
  kAutocast = 2,
  kSavedTensorHooks = 4,
};
extern constinit thread_local uint32_t thread_flags;

/// Deterministic mode of the process: set_deterministic, else WEFT_DETERMINISTIC.
bool deterministic();
void set_deterministic(bool value);

}  // namespace detail

}  // namespace weft::inline v0
