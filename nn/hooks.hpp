// Hooks around a unit's forward and backward: what data parallelism, sharding and offloading are
// built on. The model's type and keys never change.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <weft/autograd/autograd.hpp>
#include <weft/core/tensor.hpp>

namespace weft::inline v0::nn {

class Module;

namespace detail {

struct HookList;

/// Found by the compiler where no overload for a type exists.
void visit_tensors() = delete;

template <class T>
inline constexpr bool kIsRange = false;
template <class T, class A>
inline constexpr bool kIsRange<std::vector<T, A>> = true;
template <class T, size_t N>
inline constexpr bool kIsRange<std::array<T, N>> = true;
template <class T>
inline constexpr bool kIsOptional = false;
template <class T>
inline constexpr bool kIsOptional<std::optional<T>> = true;
template <class T>
inline constexpr bool kIsTuple = false;
template <class A, class B>
inline constexpr bool kIsTuple<std::pair<A, B>> = true;
template <class... T>
inline constexpr bool kIsTuple<std::tuple<T...>> = true;

struct AnyVisitor {
  void operator()(Tensor&) const {}
};
template <class T, class F = AnyVisitor>
concept HasVisit = requires(T& value, F& visitor) {
  visit_tensors(value, visitor);
};

struct VisitTensors {
  template <class T, class F>
  void operator()(T& value, F&& visitor) const {
    if constexpr (std::is_base_of_v<Tensor, T>) {
      visitor(static_cast<Tensor&>(value));
    } else if constexpr (kIsRange<T>) {
      for (auto& element : value) (*this)(element, visitor);
    } else if constexpr (kIsOptional<T>) {
      if (value) (*this)(*value, visitor);
    } else if constexpr (kIsTuple<T>) {
      std::apply([&](auto&... element) { ((*this)(element, visitor), ...); }, value);
    } else if constexpr (HasVisit<T, F>) {
      visit_tensors(value, visitor);
    }
  }
};

/// Whether visiting can reach a tensor in a T.
template <class T>
inline constexpr bool kVisitable =
    std::is_base_of_v<Tensor, T> || kIsRange<T> || kIsOptional<T> || kIsTuple<T> || HasVisit<T>;

}  // namespace detail

/// visit_tensors(value, f) calls f(Tensor&) for every tensor in `value`: a Tensor, vectors, arrays,
/// optionals, pairs and tuples of what it reaches, and structs that have an overload
/// `template <class F> void visit_tensors(MyArgs& args, F&& f)` in their own namespace. Other types
/// hold no tensors.
inline constexpr detail::VisitTensors visit_tensors{};

/// Tensors of a call, which a hook may read and replace.
using CallTensors = std::span<Tensor* const>;

/// Functions around the calls of a unit (a module). Any may be left out (optional). They run in the
/// order of installation before, in reverse order after. What one throws reaches the caller.
struct UnitHooks {
  using Forward = std::function<void(Module&, Phase, CallTensors)>;
  using Backward = std::function<void(Module&)>;

  Forward pre_forward = nullptr;    ///< with the inputs, before forward or its recomputation
  Forward post_forward = nullptr;   ///< with the results
  Backward pre_backward = nullptr;  ///< the gradients of the results are known; none was used yet
  /// The gradients of the unit's parameters and inputs are known; once for each pre_backward, at
  /// the latest at the end of the backward pass.
  Backward post_backward = nullptr;
  Backward failed = nullptr;  ///< forward or a hook threw; must not throw itself
};

/// Names installed hooks. Outlives module and hooks in any order; dropping it removes nothing.
class WEFT_API HookHandle {
 public:
  HookHandle() = default;
  HookHandle(std::weak_ptr<detail::HookList> list, uint64_t id) : list_(std::move(list)), id_(id) {}
  /// Takes the hooks out; nothing where they or the module are gone already.
  void remove();

 private:
  std::weak_ptr<detail::HookList> list_;
  uint64_t id_ = 0;
};

}  // namespace weft::inline v0::nn
