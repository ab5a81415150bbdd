// Named tensors in order: what models, optimizers and files exchange.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <weft/core/tensor.hpp>

namespace weft::inline v0 {

/// Keys and tensors in the order of their owner (a module tree's, a file's).
using StateDict = std::vector<std::pair<std::string, Tensor>>;

}  // namespace weft::inline v0
