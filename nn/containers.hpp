// Modules of modules.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <weft/nn/layer.hpp>

namespace weft::inline v0::nn {

namespace detail {
[[noreturn]] WEFT_API void fail_list_index(const std::string& path, int64_t index, size_t size);
[[noreturn]] WEFT_API void fail_list_size(const At& at, int64_t size);
}  // namespace detail

/// `n` children named 0 … n-1, each made with the same arguments:
/// `nn::List<Block> blocks(sub("blocks"), n, args...)`. It is indexed and iterated, not called.
template <class M>
class List : public Module {
 public:
  template <class... Args>
  List(const At& at, int64_t n, const Args&... args) : Module(at) {
    if (n < 0) detail::fail_list_size(at, n);
    modules_.reserve(static_cast<size_t>(n));
    for (int64_t i = 0; i < n; ++i)
      modules_.push_back(std::make_unique<M>(sub(std::to_string(i)), args...));
  }

  size_t size() const { return modules_.size(); }
  /// Child `i`. Throws ArgumentError out of range.
  M& operator[](int64_t i) { return *at(i); }
  const M& operator[](int64_t i) const { return *at(i); }

  /// Walks over the children as references.
  class Iterator {
   public:
    using difference_type = std::ptrdiff_t;
    using value_type = M;
    explicit Iterator(const std::unique_ptr<M>* place = nullptr) : place_(place) {}
    M& operator*() const { return **place_; }
    M* operator->() const { return place_->get(); }
    Iterator& operator++() {
      ++place_;
      return *this;
    }
    bool operator==(const Iterator&) const = default;

   private:
    const std::unique_ptr<M>* place_;
  };
  Iterator begin() { return Iterator(modules_.data()); }
  Iterator end() { return Iterator(modules_.data() + modules_.size()); }

 private:
  const std::unique_ptr<M>& at(int64_t i) const {
    if (i < 0 || static_cast<size_t>(i) >= modules_.size())
      detail::fail_list_index(path(), i, modules_.size());
    return modules_[static_cast<size_t>(i)];
  }
  std::vector<std::unique_ptr<M>> modules_;
};

/// The arguments of one module of a Sequential, behind its At.
template <class... Args>
std::tuple<std::decay_t<Args>...> args(Args&&... values) {
  return {std::forward<Args>(values)...};
}

namespace detail {

// The modules of a Sequential, each constructed in place.
template <class... Ms>
struct Chain;

template <>
struct Chain<> {
  template <class Sub>
  Chain(Sub&, size_t) {}
  Tensor run(Tensor x) { return x; }
};

template <class M, class... Rest>
struct Chain<M, Rest...> {
  M module;
  Chain<Rest...> rest;

  template <class Sub, class First, class... Others>
  Chain(Sub& sub, size_t index, const First& first, const Others&... others)
      : module(std::make_from_tuple<M>(std::tuple_cat(std::tuple<At>(sub(index)), first))),
        rest(sub, index + 1, others...) {}

  Tensor run(Tensor x) { return rest.run(module(std::move(x))); }
  template <size_t I>
  auto& get() {
    if constexpr (I == 0)
      return module;
    else
      return rest.template get<I - 1>();
  }
};

}  // namespace detail

/// Modules called one after the other, named 0, 1 …; each takes and returns one tensor.
///
///     nn::Sequential<nn::Linear, nn::GELU, nn::Linear> net(
///         sub("net"), nn::args(2, 8), nn::args(), nn::args(8, 1));
template <class... Ms>
class Sequential : public Layer<Sequential<Ms...>> {
 public:
  /// One args(…) per module, in order.
  template <class... Arguments>
  requires(sizeof...(Arguments) == sizeof...(Ms)) explicit Sequential(const At& at,
                                                                      const Arguments&... arguments)
      : Sequential(at, Names{}, arguments...) {}
  /// Modules that need no arguments.
  explicit Sequential(const At& at) requires(sizeof...(Ms) > 0)
      : Sequential(at, Names{}, ((void)sizeof(Ms), std::tuple<>())...) {}

  Tensor forward(Tensor x) { return chain_.run(std::move(x)); }
  static constexpr size_t size() { return sizeof...(Ms); }
  /// Module number I, with its type.
  template <size_t I>
  auto& get() {
    return chain_.template get<I>();
  }

 private:
  struct Names {};
  struct Sub {
    Sequential& self;
    At operator()(size_t index) { return self.sub(std::to_string(index)); }
  };
  template <class... Arguments>
  Sequential(const At& at, Names, const Arguments&... arguments)
      : Layer<Sequential>(at), sub_{*this}, chain_(sub_, 0, arguments...) {}

  Sub sub_;
  detail::Chain<Ms...> chain_;
};

}  // namespace weft::inline v0::nn
