#include <weft/nn/module.hpp>

#include <cxxabi.h>

#include <algorithm>
#include <cstdlib>
#include <set>

#include <weft/autograd/autograd.hpp>
#include <weft/core/base/check.hpp>
#include <weft/core/op.hpp>
#include <weft/core/ops.hpp>
#include <weft/nn/hook_list.hpp>
#include <weft/nn/param.hpp>

namespace weft::inline v0::nn {

namespace {

std::string joined(const std::string& prefix, const std::string& name) {
  return prefix.empty() ? name : name.empty() ? prefix : prefix + "." + name;
}

// Calls fn(dotted name from `prefix`, module) for the module, then for its children in order.
template <class M, class F>
void walk(M& module, const std::string& prefix, const F& fn) {
  fn(prefix, module);
  for (Module* child : module.children())
    walk(static_cast<M&>(*child), joined(prefix, child->name()), fn);
}

/// "weft::v0::nn::Linear" -> "Linear"; what stands between < and > keeps its names the same way.
std::string without_namespaces(std::string text) {
  const std::string unnamed = "(anonymous namespace)::";
  for (size_t at; (at = text.find(unnamed)) != std::string::npos;) text.erase(at, unnamed.size());
  std::string out;
  size_t word = 0;  // where the current identifier starts in `out`
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == ':' && i + 1 < text.size() && text[i + 1] == ':') {
      out.resize(word);
      ++i;
      continue;
    }
    out += c;
    if (c == '<' || c == '>' || c == ',' || c == ' ') word = out.size();
  }
  return out;
}

}  // namespace

At::At(Place place, uint64_t seed)
    : place_(place), generator_(std::make_shared<PhiloxState>(PhiloxState{seed, 0})) {}

At At::with(Place place) const {
  At other = *this;
  other.place_ = place;
  return other;
}

Module::Module(const At& at)
    : parent_(at.parent()), name_(at.name()), place_(at.place()), generator_(at.generator()) {
  if (parent_ == nullptr) return;
  parent_->check_new_name("module", name_);
  training_ = parent_->training_;
  parent_->children_.push_back(this);
}

Module::~Module() {
  // Members go before the object that holds them, so the parent is still there.
  if (parent_ != nullptr) std::erase(parent_->children_, this);
}

At Module::sub(std::string name) {
  WEFT_CHECK(ArgumentError, !name.empty() && name.find('.') == std::string::npos,
             "sub: \"{}\" cannot name a member of {}; a name is not empty and has no dot", name,
             type_name());
  return At(*this, std::move(name), place_, generator_);
}

void Module::check_new_name(const char* kind, const std::string& name) const {
  const auto same = [&name](const auto* member) { return member->name() == name; };
  const char* taken = std::any_of(parameters_.begin(), parameters_.end(), same) ? "parameter"
                      : std::any_of(buffers_.begin(), buffers_.end(), same)     ? "buffer"
                      : std::any_of(children_.begin(), children_.end(), same)   ? "module"
                                                                                : nullptr;
  const std::string place = path();
  WEFT_CHECK(
      ArgumentError, taken == nullptr,
      "module: {} \"{}\" is registered twice: {}{}{} has a {} of that name; each sub(\"...\") "
      "needs a name of its own",
      kind, joined(place, name), type_name(), place.empty() ? "" : " at ", place,
      taken == nullptr ? "" : taken);
}

std::string Module::path() const {
  return parent_ == nullptr ? name_ : joined(parent_->path(), name_);
}

std::string Module::type_name() const {
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> name(
      abi::__cxa_demangle(typeid(*this).name(), nullptr, nullptr, &status), &std::free);
  return without_namespaces(status == 0 ? name.get() : typeid(*this).name());
}

void Module::train(bool mode) {
  training_ = mode;
  for (Module* child : children_) child->train(mode);
}

void Module::apply(const std::function<void(Module&)>& fn) {
  for (Module* child : children_) child->apply(fn);
  fn(*this);
}

void Module::requires_grad_(bool value) {
  for (Tensor& parameter : parameters()) parameter.requires_grad_(value);
}

void Module::zero_grad(bool set_to_none) {
  for (const Tensor& parameter : parameters()) {
    Tensor grad = parameter.grad();
    if (!grad.defined()) continue;
    if (set_to_none)
      parameter.set_grad(Tensor());
    else
      parameter.set_grad(zeros_like(grad.detach()));
  }
}

namespace {

void check_has_values(const Tensor& tensor, Device device, const std::string& key) {
  WEFT_CHECK(
      DeviceError, !tensor.device().is_meta() || device.is_meta(),
      "to: \"{}\" {} is on meta and has no values to move to {}; use materialise(device) for "
      "first values, or load_state_dict",
      key, to_string(tensor.shape()), to_string(device));
}

/// Changes what the handles see, the gradient with it.
void move_parameter(Tensor& parameter, Device device, DType dtype) {
  if (parameter.device() == device && parameter.dtype() == dtype) return;
  const Tensor grad = parameter.grad();
  weft::detail::replace_contents(parameter, parameter.detach().to(device, dtype));
  if (grad.defined()) parameter.set_grad(grad.detach().to(device, dtype));
}

/// Everything is checked before anything is moved.
void move(Module& root, Device device, std::optional<DType> dtype) {
  const NoGrad guard;
  walk(root, root.path(), [&](const std::string& path, Module& module) {
    for (const Param* p : module.own_parameters())
      check_has_values(*p, device, joined(path, p->name()));
    for (const Buffer* b : module.own_buffers())
      if (b->defined()) check_has_values(*b, device, joined(path, b->name()));
  });
  walk(root, "", [&](const std::string&, Module& module) {
    for (Param* p : module.own_parameters())
      move_parameter(*p, device, p->is_floating_point() ? dtype.value_or(p->dtype()) : p->dtype());
    for (Buffer* b : module.own_buffers())
      if (b->defined())
        *b = b->to(device, b->is_floating_point() && !b->keeps_dtype() ? dtype.value_or(b->dtype())
                                                                       : b->dtype());
  });
}

}  // namespace

void Module::to(Device device) {
  move(*this, device, std::nullopt);
  walk(*this, "", [&](const std::string&, Module& m) { m.place_.device = device; });
}

void Module::to(DType dtype) { to(place_.device, dtype); }

void Module::to(Device device, DType dtype) {
  WEFT_CHECK(ArgumentError, is_floating(dtype),
             "to: a module is moved to floating-point dtypes alone, not {}", name_of(dtype));
  move(*this, device, dtype);
  walk(*this, "", [&](const std::string&, Module& m) { m.place_ = {device, dtype}; });
}

void Module::to_empty(Device device) { allocate(device, false); }

void Module::materialise(Device device) { allocate(device, true); }

void Module::allocate(Device device, bool fill) {
  const NoGrad guard;
  walk(*this, "", [&](const std::string&, Module& module) {
    module.place_.device = device;
    for (Param* p : module.own_parameters()) {
      if (!p->device().is_meta() || device.is_meta()) continue;
      weft::detail::replace_contents(*p,
                                     empty(p->shape(), {.dtype = p->dtype(), .device = device}));
      if (fill) p->init().fill(*p);
    }
    for (Buffer* b : module.own_buffers())
      if (b->defined() && b->device().is_meta()) *b = b->remake(module.place_);
  });
}

StateDict Module::named_parameters(bool remove_duplicate) const {
  StateDict list;
  std::set<const TensorImpl*> seen;
  walk(*this, "", [&](const std::string& path, const Module& module) {
    for (const Param* p : module.parameters_)
      if (seen.insert(p->impl()).second || !remove_duplicate)
        list.emplace_back(joined(path, p->name()), *p);
  });
  return list;
}

std::vector<Tensor> Module::parameters() const {
  std::vector<Tensor> list;
  for (auto& [name, parameter] : named_parameters()) list.push_back(std::move(parameter));
  return list;
}

StateDict Module::named_buffers() const {
  StateDict list;
  walk(*this, "", [&](const std::string& path, const Module& module) {
    for (const Buffer* b : module.buffers_)
      if (b->defined()) list.emplace_back(joined(path, b->name()), *b);
  });
  return list;
}

std::vector<NamedModule> Module::named_modules() {
  std::vector<NamedModule> list;
  walk(*this, "",
       [&](const std::string& path, Module& module) { list.emplace_back(path, &module); });
  return list;
}

StateDict Module::state_dict() const {
  StateDict list;
  walk(*this, "", [&](const std::string& path, const Module& module) {
    for (const Param* p : module.parameters_)
      list.emplace_back(joined(path, p->name()), p->detach());
    for (const Buffer* b : module.buffers_)
      if (b->defined() && b->is_persistent())
        list.emplace_back(joined(path, b->name()), b->detach());
  });
  return list;
}

HookHandle Module::add_hooks(UnitHooks hooks) {
  return detail::add_hooks(*this, hooks_, std::move(hooks));
}

void Module::drop_empty_hooks() {
  if (hooks_ != nullptr && hooks_->entries.empty()) hooks_ = nullptr;
}

}  // namespace weft::inline v0::nn
