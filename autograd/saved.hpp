// What a node keeps of a tensor until backward. Not for users.
#pragma once

#include <cstdint>
#include <memory>

#include <weft/autograd/autograd.hpp>

namespace weft::inline v0 {
struct Node;

namespace detail {

/// The functions of one SavedTensorHooks guard.
struct HookPair {
  SavedTensorHooks::Pack pack;
  SavedTensorHooks::Unpack unpack;
};

struct PackedTensor {
  std::shared_ptr<HookPair> hooks;
  std::shared_ptr<void> value;
};

/// A tensor with the version it had; or what the hooks made of it.
class SavedTensor {
 public:
  void save(const Tensor& tensor, uint32_t version);
  /// The tensor as it was saved. `op` and `what` are for the error texts.
  Tensor unpack(const char* op, const char* what, int index) const;
  void release() {
    tensor_ = Tensor();
    packed_.reset();
    state_ = State::released;
  }
  bool is_saved() const { return state_ == State::saved; }
  bool is_released() const { return state_ == State::released; }

 private:
  enum class State : uint8_t { empty, saved, released };
  Tensor tensor_;
  std::unique_ptr<PackedTensor> packed_;
  uint32_t version_ = 0;
  State state_ = State::empty;
};

}  // namespace detail
}  // namespace weft::inline v0
