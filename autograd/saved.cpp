#include <weft/autograd/saved.hpp>

#include <weft/autograd/graph.hpp>
#include <weft/core/base/check.hpp>

namespace weft::inline v0 {

namespace detail {

std::vector<std::shared_ptr<HookPair>>& hook_stack() {
  thread_local std::vector<std::shared_ptr<HookPair>> stack;
  return stack;
}

namespace {

/// Hooks run ops of their own: these are neither recorded nor packed again.
class QuietScope {
 public:
  QuietScope() : previous_(thread_flags) { thread_flags &= ~(kSavedTensorHooks | kGradEnabled); }
  ~QuietScope() { thread_flags = previous_; }
  QuietScope(const QuietScope&) = delete;
  QuietScope& operator=(const QuietScope&) = delete;

 private:
  uint32_t previous_;
};

}  // namespace

void SavedTensor::save(const Tensor& tensor, uint32_t version) {
  state_ = State::saved;
  version_ = version;
  if (!(thread_flags & kSavedTensorHooks)) [[likely]] {
    tensor_ = tensor;
    return;
  }
  const std::shared_ptr<HookPair> hooks = hook_stack().back();
  const QuietScope quiet;
  packed_ = std::make_unique<PackedTensor>(PackedTensor{hooks, hooks->pack(tensor)});
}

Tensor SavedTensor::unpack(const char* op, const char* what, int index) const {
  WEFT_CHECK(
      ArgumentError, state_ != State::released,
      "backward: what {} saved was freed by an earlier backward; pass retain_graph to that one "
      "to go through the graph twice",
      op);
  WEFT_CHECK(
      ArgumentError, state_ == State::saved,
      "internal: the formula of {} asks for {} {}, which its row does not save; please report", op,
      what, index);
  if (packed_) {
    const QuietScope quiet;
    return packed_->hooks->unpack(packed_->value);
  }
  const uint32_t now = tensor_.version();
  const char* writer = tensor_.storage()->writer;
  WEFT_CHECK(ArgumentError, now == version_,
             "backward: {} needs its {} {} of shape {} as it was, but {} changed it in place later "
             "(version {}, now {}); change a clone() instead",
             op, what, index, to_string(tensor_.shape()), writer == nullptr ? "a write" : writer,
             version_, now);
  return tensor_;
}

}  // namespace detail

SavedTensorHooks::SavedTensorHooks(Pack pack, Unpack unpack) {
  detail::hook_stack().push_back(
      std::make_shared<detail::HookPair>(detail::HookPair{std::move(pack), std::move(unpack)}));
  detail::thread_flags |= detail::kSavedTensorHooks;
}

SavedTensorHooks::~SavedTensorHooks() {
  detail::hook_stack().pop_back();
  if (detail::hook_stack().empty()) detail::thread_flags &= ~detail::kSavedTensorHooks;
}

}  // namespace weft::inline v0
