// Tensors that have a place in the module tree.
#pragma once

#include <functional>
#include <string>

#include <weft/core/tensor.hpp>
#include <weft/nn/init.hpp>
#include <weft/nn/module.hpp>

namespace weft::inline v0::nn {

/// A parameter: a tensor that requires grad, registered under a name. A member of a module, which
/// it may not leave; as a Tensor it can be copied like any other.
class WEFT_API Param : public Tensor {
 public:
  /// Makes the parameter `at` (Module::sub) with first values by `init`. Not `present`: there is no
  /// such parameter, the tensor is empty and the key does not exist. Throws ArgumentError for a
  /// name that is taken.
  Param(const At& at, const Shape& shape, Init init, bool present = true);
  ~Param();
  Param(const Param&) = delete;
  /// Ties: both names stand for one tensor from now on. Throws ArgumentError where the shapes
  /// differ.
  Param& operator=(const Param& other);

  const std::string& name() const { return name_; }
  /// The key: names from the root, joined by dots.
  std::string path() const;
  const Init& init() const { return init_; }
  /// Takes another rule for first values and fills by it; on meta it waits for materialise().
  void reset(Init init);

 private:
  Module* owner_;
  std::string name_;
  Init init_;
};

struct BufferOptions {
  bool persistent = true;   ///< listed in the state dict
  bool keep_dtype = false;  ///< Module::to(dtype) leaves it as it is
};

/// A tensor that belongs to a module's state and is not trained.
class WEFT_API Buffer : public Tensor {
 public:
  /// Makes the values for a place; run again when a model that was built on meta gets memory.
  using Recipe = std::function<Tensor(Place)>;
  /// Throws ArgumentError for a name that is taken.
  Buffer(const At& at, Recipe recipe, BufferOptions options = {});
  ~Buffer();
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  /// New values; the registered place stays.
  Buffer& operator=(const Tensor& value);

  const std::string& name() const { return name_; }
  std::string path() const;
  bool is_persistent() const { return options_.persistent; }
  bool keeps_dtype() const { return options_.keep_dtype; }
  /// What the recipe makes for `place`.
  Tensor remake(Place place) const { return recipe_(place); }

 private:
  Module* owner_;
  std::string name_;
  Recipe recipe_;
  BufferOptions options_;
};

}  // namespace weft::inline v0::nn
