// Gradients: what users call. The graph itself is in autograd/node.hpp.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <weft/core/tensor.hpp>

namespace weft::inline v0 {

/// Turns recording off in this thread for the guard's life.
class WEFT_API NoGrad {
 public:
  NoGrad();
  ~NoGrad();
  NoGrad(const NoGrad&) = delete;
  NoGrad& operator=(const NoGrad&) = delete;

 private:
  bool previous_;
};

/// Turns recording on in this thread for the guard's life, inside a NoGrad.
class WEFT_API EnableGrad {
 public:
  EnableGrad();
  ~EnableGrad();
  EnableGrad(const EnableGrad&) = delete;
  EnableGrad& operator=(const EnableGrad&) = delete;

 private:
  bool previous_;
};

/// Whether ops are recorded in this thread.
WEFT_API bool is_grad_enabled();

struct GradOptions {
  std::vector<Tensor> grad_outputs = {};  ///< one per output; may be left out for single elements
  bool retain_graph = false;              ///< keep what backward saved, for another pass
  bool create_graph = false;              ///< record the pass itself, for higher derivatives
  bool allow_unused = false;  ///< an undefined tensor for inputs that outputs do not use
};

/// The gradients of the sum of `outputs` for each of `inputs`; leaves' grad() stay as they are.
/// Throws ArgumentError where an input was not used (unless allowed) or the graph was freed
/// already.
WEFT_API std::vector<Tensor> grad(const std::vector<Tensor>& outputs,
                                  const std::vector<Tensor>& inputs,
                                  const GradOptions& options = {});

/// Backward from several outputs at once, into grad() of the leaves.
WEFT_API void backward(const std::vector<Tensor>& outputs, const GradOptions& options = {});

/// Runs once, at the end of the backward pass that is running in this thread (the last gradients of
/// its leaves are in place). Throws ArgumentError outside of one.
WEFT_API void queue_callback(std::function<void()> callback);

/// Packs what autograd saves and unpacks it at backward, in this thread, for the guard's life:
/// compression, offloading, recomputation. `unpack` gets what `pack` returned.
class WEFT_API SavedTensorHooks {
 public:
  using Pack = std::function<std::shared_ptr<void>(const Tensor&)>;
  using Unpack = std::function<Tensor(const std::shared_ptr<void>&)>;
  SavedTensorHooks(Pack pack, Unpack unpack);
  ~SavedTensorHooks();
  SavedTensorHooks(const SavedTensorHooks&) = delete;
  SavedTensorHooks& operator=(const SavedTensorHooks&) = delete;
};

/// Phase in which a unit's code runs, for hooks.
enum class Phase : uint8_t { forward, recompute, backward };
WEFT_API Phase current_phase();

namespace detail {
WEFT_API Tensor checkpoint_call(const std::function<Tensor()>& run,
                                const std::vector<Tensor>& inputs);

template <class T>
void add_if_tensor(std::vector<Tensor>& tensors, const T& value) {
  if constexpr (std::is_convertible_v<const T&, const Tensor&>) tensors.push_back(value);
}
}  // namespace detail

/// Runs fn(inputs…) without keeping what its backward needs; the first use during backward runs it
/// again, with the random numbers of the first time. An input that was changed in place until then
/// is an ArgumentError. Chen et al., Training Deep Nets with Sublinear
/// Memory Cost, 2016; the form that needs no input with requires_grad (PyTorch's non-reentrant
/// one).
template <class Function, class... Inputs>
Tensor checkpoint(Function fn, const Inputs&... inputs) {
  std::vector<Tensor> tensors;
  (detail::add_if_tensor(tensors, inputs), ...);
  return detail::checkpoint_call(
      [fn = std::move(fn), inputs...]() -> Tensor { return fn(inputs...); }, tensors);
}

/// What a user-defined function keeps between its forward and its backward.
class WEFT_API FunctionContext {
 public:
  void save_for_backward(std::vector<Tensor> tensors);
  /// Throws ArgumentError where one of them was changed in place since, or where an earlier
  /// backward freed them.
  std::vector<Tensor> saved_tensors() const;

 private:
  friend struct FunctionAccess;
  bool released_ = false;
  std::vector<Tensor> saved_;
  std::vector<uint32_t> versions_;
};

/// Calls `forward` unrecorded and records `backward` as its derivative. `backward` gets the
/// gradient of each output and returns one tensor per input (undefined for none).
WEFT_API std::vector<Tensor> apply_function(
    const std::string& name,
    const std::function<std::vector<Tensor>(FunctionContext&, const std::vector<Tensor>&)>& forward,
    const std::function<std::vector<Tensor>(FunctionContext&, const std::vector<Tensor>&)>&
        backward,
    const std::vector<Tensor>& inputs);

struct GradcheckOptions {
  double eps = 1e-6;
  double atol = 1e-5;
  double rtol = 1e-3;
  bool second_order = false;  ///< check the gradient of the gradient too
};

/// Compares the gradients of fn with central differences; inputs must be f64 and require grad.
/// Returns an empty text where they agree, else what differs, where and by how much.
WEFT_API std::string gradcheck(const std::function<Tensor(const std::vector<Tensor>&)>& fn,
                               const std::vector<Tensor>& inputs,
                               const GradcheckOptions& options = {});

/// In this thread, for the guard's life: backward checks every gradient for NaN and names the op.
class WEFT_API DetectAnomaly {
 public:
  DetectAnomaly();
  ~DetectAnomaly();
  DetectAnomaly(const DetectAnomaly&) = delete;
  DetectAnomaly& operator=(const DetectAnomaly&) = delete;

 private:
  bool previous_;
};

/// Results equal to the bit from run to run and across thread counts, for all threads of the
/// process; until it is called, WEFT_DETERMINISTIC decides.
WEFT_API void set_deterministic(bool value);
WEFT_API bool is_deterministic();

}  // namespace weft::inline v0
