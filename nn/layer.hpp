// Layer<Self>: what turns forward() into a call with hooks.
#pragma once

#include <memory>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <weft/nn/hooks.hpp>
#include <weft/nn/module.hpp>
#include <weft/nn/param.hpp>

namespace weft::inline v0::nn {

namespace detail {

/// One call of a unit that has hooks.
class WEFT_API HookedCall {
 public:
  explicit HookedCall(Module& module);
  ~HookedCall();
  HookedCall(const HookedCall&) = delete;
  HookedCall& operator=(const HookedCall&) = delete;

  void before(CallTensors inputs);
  void after(CallTensors outputs);
  void failed() noexcept;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

// How a hooked call holds an argument while hooks may replace its tensors: handles and values by
// copy, so that the caller's stay as they are; other objects that forward may change (a cache) by
// reference, and so what holds no tensor.
template <class Arg>
using Held =
    std::conditional_t<std::is_base_of_v<Tensor, std::remove_cvref_t<Arg>>, Tensor,
                       std::conditional_t<std::is_lvalue_reference_v<Arg> &&
                                              (!std::is_const_v<std::remove_reference_t<Arg>> ||
                                               !kVisitable<std::remove_cvref_t<Arg>>),
                                          Arg, std::remove_cvref_t<Arg>>>;

/// A held argument with the category of the caller's.
template <class Arg, class H>
decltype(auto) pass(H& held) {
  if constexpr (!std::is_lvalue_reference_v<Arg>)
    return static_cast<std::remove_reference_t<H>&&>(held);
  else if constexpr (std::is_const_v<std::remove_reference_t<Arg>>)
    return static_cast<const std::remove_reference_t<H>&>(held);
  else
    return static_cast<H&>(held);
}

template <class Self, class... Args, size_t... I>
auto call_hooked(Module& module, Self& self, std::index_sequence<I...>, Args&&... args) {
  std::tuple<Held<Args>...> held(std::forward<Args>(args)...);
  std::vector<Tensor*> tensors;
  const auto collect = [&tensors](Tensor& t) { tensors.push_back(&t); };
  (nn::visit_tensors(const_cast<std::remove_cvref_t<Held<Args>>&>(std::get<I>(held)), collect),
   ...);
  HookedCall call(module);
  try {
    call.before(tensors);
    tensors.clear();
    if constexpr (std::is_void_v<decltype(self.forward(pass<Args>(std::get<I>(held))...))>) {
      self.forward(pass<Args>(std::get<I>(held))...);
      call.after(tensors);
    } else {
      auto results = self.forward(pass<Args>(std::get<I>(held))...);
      nn::visit_tensors(results, collect);
      call.after(tensors);
      return results;
    }
  } catch (...) {
    call.failed();
    throw;
  }
}

}  // namespace detail

/// Base of modules: calling the object runs pre-hooks, Self::forward and post-hooks. `forward` may
/// take and return anything.
template <class Self>
class Layer : public Module {
 public:
  template <class... Args>
  auto operator()(Args&&... args) {
    auto& self = static_cast<Self&>(*this);
    if (hooks() == nullptr) [[likely]]
      return self.forward(std::forward<Args>(args)...);
    return detail::call_hooked(*this, self, std::index_sequence_for<Args...>{},
                               std::forward<Args>(args)...);
  }
  template <class... Args>
  auto operator()(Args&&... args) const {
    auto& self = static_cast<const Self&>(*this);
    if (hooks() == nullptr) [[likely]]
      return self.forward(std::forward<Args>(args)...);
    // Hooks belong to the unit, not to its value: they may be given what the caller sees as const.
    return detail::call_hooked(const_cast<Layer&>(*this), self, std::index_sequence_for<Args...>{},
                               std::forward<Args>(args)...);
  }

 protected:
  explicit Layer(const At& at) : Module(at) {}
};

}  // namespace weft::inline v0::nn
