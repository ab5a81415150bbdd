// The module tree: value members, constructed in place, that know their names.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <weft/core/io/state_dict.hpp>
#include <weft/core/random.hpp>
#include <weft/core/tensor.hpp>
#include <weft/nn/hooks.hpp>

namespace weft::inline v0::nn {

class Module;
class Param;
class Buffer;

/// Where the parameters of a module are made, and of what dtype.
struct Place {
  Device device = Device::cpu();
  DType dtype = DType::f32;
};

/// The spot in a tree at which a module, a parameter or a buffer is constructed: the parent, the
/// name under it, the place, and the random numbers for first values. Roots are made from a Place;
/// all others by Module::sub.
class WEFT_API At {
 public:
  At(Place place = {}) : place_(place) {}
  /// First values come from a stream of their own, the same whatever else draws random numbers.
  At(Place place, uint64_t seed);
  At(Module& parent, std::string name, Place place, std::shared_ptr<PhiloxState> generator)
      : parent_(&parent), name_(std::move(name)), place_(place), generator_(std::move(generator)) {}

  Module* parent() const { return parent_; }
  const std::string& name() const { return name_; }
  const Place& place() const { return place_; }
  Device device() const { return place_.device; }
  DType dtype() const { return place_.dtype; }
  /// The seeded stream of first values; null for the default generator.
  const std::shared_ptr<PhiloxState>& generator() const { return generator_; }
  /// The same spot with another place.
  At with(Place place) const;

 private:
  Module* parent_ = nullptr;
  std::string name_;
  Place place_;
  std::shared_ptr<PhiloxState> generator_;
};

/// A module of a tree and its dotted name; the root's is empty.
using NamedModule = std::pair<std::string, Module*>;

/// Base of everything with parameters. A module is a plain object whose children, parameters and
/// buffers are its members; it stays where it was constructed. Derive from Layer<Self>.
///
///     struct Net : nn::Layer<Net> {
///       nn::Linear fc1, fc2;
///       explicit Net(nn::At at) : Layer(at), fc1(sub("fc1"), 2, 8), fc2(sub("fc2"), 8, 1) {}
///       Tensor forward(const Tensor& x) { return fc2(tanh(fc1(x))); }
///     };
class WEFT_API Module {
 public:
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;
  virtual ~Module();

  /// Name under the parent; empty for a root.
  const std::string& name() const { return name_; }
  /// Names from the root, joined by dots: the prefix of this module's keys.
  std::string path() const;
  Module* parent() const { return parent_; }
  /// The class without namespaces, such as "Linear".
  std::string type_name() const;
  /// Where it was constructed, or moved to since by to().
  const Place& place() const { return place_; }

  /// Sets the mode of this module and all below it (dropout is active in training mode).
  void train(bool mode = true);
  void eval() { train(false); }
  bool is_training() const { return training_; }

  /// Moves parameters, buffers and gradients in place: every handle to a parameter (an optimizer's)
  /// sees the move. dtypes of whole numbers stay. Throws DeviceError for values on meta: they have
  /// none, see materialise().
  void to(Device device);
  void to(DType dtype);
  void to(Device device, DType dtype);
  /// Gives every parameter and buffer that is on meta memory on `device`, without values: for those
  /// who load or copy into all of it.
  void to_empty(Device device);
  /// Gives every parameter and buffer that is on meta memory on `device` and its first values: by
  /// the rule it was made with, and the recipes of the buffers.
  void materialise(Device device);

  /// Turns recording on or off for all parameters.
  void requires_grad_(bool value = true);
  /// Drops the gradients, or fills them with zeros.
  void zero_grad(bool set_to_none = true);
  /// Calls `fn` for every module, children before their parent.
  void apply(const std::function<void(Module&)>& fn);

  /// Parameters with their dotted names, in the order of construction, a module's own before its
  /// children's. Tied ones appear once, under their first name, unless `remove_duplicate` is false.
  StateDict named_parameters(bool remove_duplicate = true) const;
  /// The same without the names: what optimizers take.
  std::vector<Tensor> parameters() const;
  StateDict named_buffers() const;
  /// This module (with an empty name) and all below it.
  std::vector<NamedModule> named_modules();
  /// Parameters of this module alone, not of its children.
  const std::vector<Param*>& own_parameters() const { return parameters_; }
  const std::vector<Buffer*>& own_buffers() const { return buffers_; }
  const std::vector<Module*>& children() const { return children_; }

  /// Every parameter and persistent buffer under its key, sharing memory with the model, outside
  /// the graph. Tied parameters are listed under each of their keys.
  StateDict state_dict() const;

  /// A table of the tree: name, type, shape, parameters, bytes; totals below it, tied parameters
  /// counted once.
  std::string summary() const;

  /// Installs hooks around this unit's calls; see UnitHooks.
  HookHandle add_hooks(UnitHooks hooks);
  /// For Layer: null where there are none.
  const std::shared_ptr<detail::HookList>& hooks() const { return hooks_; }

 protected:
  explicit Module(const At& at);
  /// The spot of a child, parameter or buffer of this module. Throws ArgumentError for a name that
  /// is empty or has a dot.
  At sub(std::string name);

 private:
  friend class Param;
  friend class Buffer;
  friend class HookHandle;
  void drop_empty_hooks();
  void allocate(Device device, bool fill);
  void check_new_name(const char* kind, const std::string& name) const;

  Module* parent_ = nullptr;
  std::string name_;
  Place place_;
  std::shared_ptr<PhiloxState> generator_;
  bool training_ = true;
  std::vector<Param*> parameters_;
  std::vector<Buffer*> buffers_;
  std::vector<Module*> children_;
  std::shared_ptr<detail::HookList> hooks_;
};

}  // namespace weft::inline v0::nn
