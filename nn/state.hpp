// Loading, copying and cloning of a model's state.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <weft/core/io/state_dict.hpp>
#include <weft/nn/module.hpp>

namespace weft::inline v0::nn {

struct LoadOptions {
  bool strict = true;   ///< keys that are missing or unexpected are errors
  bool assign = false;  ///< take the tensors over as they are, without a copy (mapped files)
};

/// Keys that did not match, with {.strict = false}.
struct LoadResult {
  std::vector<std::string> missing_keys;     ///< of the model, not in the source
  std::vector<std::string> unexpected_keys;  ///< of the source, not in the model
};

/// Puts the tensors of `source` into the model's parameters and persistent buffers, converted to
/// their dtype and device. What is on meta gets memory on the tensor's device. Throws ArgumentError
/// that lists every missing, unexpected and mis-shaped key at once; the model is then unchanged.
WEFT_API LoadResult load_state_dict(Module& model, const StateDict& source,
                                    LoadOptions options = {});

/// Copies parameters and persistent buffers between models of the same keys and shapes. Throws as
/// load_state_dict.
WEFT_API void copy_weights(const Module& from, Module& to);

/// Another model of the same type and weights: `config` are the arguments that it is constructed
/// with, behind the At.
template <class M, class... Config>
std::unique_ptr<M> clone(const M& model, const Config&... config) {
  auto copy = std::make_unique<M>(At(Place{Device::meta(), model.place().dtype}), config...);
  copy->to_empty(model.place().device);
  copy_weights(model, *copy);
  copy->train(model.is_training());
  return copy;
}

}  // namespace weft::inline v0::nn
