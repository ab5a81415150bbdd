#include <weft/nn/param.hpp>

#include <algorithm>

#include <weft/core/base/check.hpp>
#include <weft/core/ops.hpp>

namespace weft::inline v0::nn {

namespace {

/// Makes random numbers come from a stream of the tree's own for the guard's life.
class StreamOfTree {
 public:
  explicit StreamOfTree(const std::shared_ptr<PhiloxState>& own) : own_(own) {
    if (own_ == nullptr) return;
    outside_ = random_state();
    set_random_state(*own_);
  }
  ~StreamOfTree() {
    if (own_ == nullptr) return;
    *own_ = random_state();
    set_random_state(outside_);
  }
  StreamOfTree(const StreamOfTree&) = delete;
  StreamOfTree& operator=(const StreamOfTree&) = delete;

 private:
  std::shared_ptr<PhiloxState> own_;
  PhiloxState outside_;
};

Module& owner_of(const char* kind, const At& at) {
  WEFT_CHECK(ArgumentError, at.parent() != nullptr,
             "module: a {} needs a module to belong to; make it with sub(\"name\")", kind);
  return *at.parent();
}

std::string key(const Module& owner, const std::string& name) {
  const std::string path = owner.path();
  return path.empty() ? name : path + "." + name;
}

}  // namespace

Param::Param(const At& at, const Shape& shape, Init init, bool present)
    : owner_(&owner_of("parameter", at)), name_(at.name()), init_(init) {
  if (!present) return;
  owner_->check_new_name("parameter", name_);
  static_cast<Tensor&>(*this) = empty(shape, {.dtype = at.dtype(), .device = at.device()});
  reset(init);
  impl()->requires_grad = is_floating(at.dtype());
  owner_->parameters_.push_back(this);
}

void Param::reset(Init init) {
  init_ = init;
  if (device().is_meta()) return;
  const StreamOfTree guard(owner_->generator_);
  init_.fill(*this);
}

Param::~Param() { std::erase(owner_->parameters_, this); }

Param& Param::operator=(const Param& other) {
  if (this == &other) return *this;
  WEFT_CHECK(ArgumentError, defined() && other.defined() && shape() == other.shape(),
             "param: \"{}\" {} cannot be tied to \"{}\" {}", path(),
             defined() ? to_string(shape()) : "(absent)", other.path(),
             other.defined() ? to_string(other.shape()) : "(absent)");
  Tensor::operator=(other);
  return *this;
}

std::string Param::path() const { return key(*owner_, name_); }

Buffer::Buffer(const At& at, Recipe recipe, BufferOptions options)
    : owner_(&owner_of("buffer", at)),
      name_(at.name()),
      recipe_(std::move(recipe)),
      options_(options) {
  owner_->check_new_name("buffer", name_);
  Tensor::operator=(recipe_(at.place()));
  owner_->buffers_.push_back(this);
}

Buffer::~Buffer() { std::erase(owner_->buffers_, this); }

Buffer& Buffer::operator=(const Tensor& value) {
  Tensor::operator=(value);
  return *this;
}

std::string Buffer::path() const { return key(*owner_, name_); }

}  // namespace weft::inline v0::nn
