#include <weft/nn/state.hpp>

#include <fmt/format.h>

#include <map>
#include <set>

#include <weft/autograd/autograd.hpp>
#include <weft/core/base/check.hpp>
#include <weft/core/op.hpp>
#include <weft/nn/param.hpp>

namespace weft::inline v0::nn {

namespace {

/// Where a key's values go: a parameter or a buffer.
struct Target {
  std::string key;
  Param* parameter = nullptr;
  Buffer* buffer = nullptr;
  Tensor& tensor() const { return parameter ? static_cast<Tensor&>(*parameter) : *buffer; }
};

std::vector<Target> targets_of(Module& model) {
  std::vector<Target> targets;
  for (auto& [path, module] : model.named_modules()) {
    const std::string prefix = path.empty() ? "" : path + ".";
    for (Param* p : module->own_parameters()) targets.push_back({prefix + p->name(), p, nullptr});
    for (Buffer* b : module->own_buffers())
      if (b->defined() && b->is_persistent()) targets.push_back({prefix + b->name(), nullptr, b});
  }
  return targets;
}

void append_list(std::string& text, const char* title, const std::vector<std::string>& items) {
  if (items.empty()) return;
  text += fmt::format("\n  {} ({}): {}", title, items.size(), fmt::join(items, ", "));
}

void put(Target& target, const Tensor& source, bool assign) {
  Tensor& tensor = target.tensor();
  const Tensor value = source.detach();
  if (!assign && !tensor.device().is_meta() && !(tensor.storage()->flags & kReadOnly)) {
    tensor.copy_(value.to(tensor.device(), tensor.dtype()));
    return;
  }
  Tensor own = assign ? value : value.to(tensor.dtype());
  if (!assign && own.storage().get() == source.storage().get()) own = own.clone();
  if (target.buffer != nullptr)
    *target.buffer = own;
  else
    weft::detail::replace_contents(tensor, own);
}

}  // namespace

LoadResult load_state_dict(Module& model, const StateDict& source, LoadOptions options) {
  std::map<std::string, const Tensor*> given;
  for (const auto& [key, tensor] : source) given[key] = &tensor;
  std::vector<Target> targets = targets_of(model);
  LoadResult result;
  std::vector<std::string> shapes;
  std::set<std::string> known;
  for (const Target& target : targets) {
    known.insert(target.key);
    const auto found = given.find(target.key);
    if (found == given.end())
      result.missing_keys.push_back(target.key);
    else if (!(found->second->shape() == target.tensor().shape()))
      shapes.push_back(fmt::format("{} is {} in the model and {} in the source", target.key,
                                   to_string(target.tensor().shape()),
                                   to_string(found->second->shape())));
  }
  for (const auto& [key, tensor] : source)
    if (known.count(key) == 0) result.unexpected_keys.push_back(key);

  std::string problems;
  if (options.strict) {
    append_list(problems, "missing", result.missing_keys);
    append_list(problems, "unexpected", result.unexpected_keys);
  }
  append_list(problems, "of another shape", shapes);
  WEFT_CHECK(ArgumentError, problems.empty(),
             "load_state_dict: {} and the source of {} tensors do not fit:{}{}", model.type_name(),
             source.size(), problems,
             options.strict && shapes.empty()
                 ? "\n  {.strict = false} passes over missing and unexpected keys"
                 : "");
  const NoGrad guard;
  for (Target& target : targets) {
    const auto found = given.find(target.key);
    if (found != given.end()) put(target, *found->second, options.assign);
  }
  return result;
}

void copy_weights(const Module& from, Module& to) { load_state_dict(to, from.state_dict()); }

}  // namespace weft::inline v0::nn
