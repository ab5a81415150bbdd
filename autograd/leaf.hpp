// Seams at the leaves, for layers that move or reduce gradients (data parallelism, ZeRO,
// offloading).
#pragma once

#include <cstdint>
#include <functional>

#include <weft/core/tensor.hpp>

namespace weft::inline v0 {

/// Runs `hook` each time the leaf's gradient of a pass has been added to its grad(). Returns a
/// number for remove_leaf_hook. Throws ArgumentError for a tensor that is no leaf that requires
/// grad.
WEFT_API uint64_t add_leaf_hook(const Tensor& leaf, std::function<void(const Tensor& leaf)> hook);
WEFT_API void remove_leaf_hook(const Tensor& leaf, uint64_t number);

/// Makes the leaf's gradient live in `buffer` from now on: backward writes there, grad() is a
/// handle to it, and zero_grad keeps the place. An undefined tensor lifts this. Throws
/// ArgumentError where shape, dtype or device differ. A pass with create_graph leaves the buffer
/// and makes a new tensor.
WEFT_API void set_grad_buffer(const Tensor& leaf, const Tensor& buffer);
/// The buffer, or an undefined tensor.
WEFT_API Tensor grad_buffer(const Tensor& leaf);

/// Whether the pass that runs (or ran last) in this thread reached the leaf.
WEFT_API bool reached_by_backward(const Tensor& leaf);

}  // namespace weft::inline v0
