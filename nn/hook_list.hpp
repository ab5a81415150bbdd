// The hooks of one module. Not for users.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include <weft/nn/hooks.hpp>

namespace weft::inline v0::nn::detail {

struct HookEntry {
  uint64_t id;
  UnitHooks hooks;
  bool removed = false;  ///< calls and graphs that still hold it pass over it
};

/// Owned by the module alone: handles and graph nodes hold it weakly, and see by it whether the
/// module is still there.
struct HookList {
  Module* module;
  uint64_t last_id;
  std::vector<std::shared_ptr<HookEntry>> entries;
};

HookHandle add_hooks(Module& module, std::shared_ptr<HookList>& list, UnitHooks hooks);

}  // namespace weft::inline v0::nn::detail
