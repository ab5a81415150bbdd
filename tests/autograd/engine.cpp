// The backward pass: accumulation, reuse, hooks, guards, errors.
#include <doctest/doctest.h>

#include <stdexcept>
#include <weft/autograd/autograd.hpp>
#include <weft/autograd/leaf.hpp>
#include <weft/core/base/error.hpp>
#include <weft/core/memory.hpp>
#include <weft/core/ops.hpp>

#include <weft/tests/support/errors.hpp>

using namespace weft;
using weft::test::check_error;

namespace {

Tensor leaf(std::initializer_list<float> values) { return tensor(values).requires_grad_(); }

}  // namespace

TEST_CASE("backward adds gradients of every use to the leaf") {
  Tensor x = leaf({1, 2, 3});
  sum(x * x + x).backward();
  CHECK(x.grad().to_vector<float>() == std::vector<float>{3, 5, 7});
  sum(x).backward();
  CHECK(x.grad().to_vector<float>() == std::vector<float>{4, 6, 8});
}

TEST_CASE("gradients of broadcast inputs are summed to their shape") {
  Tensor x = leaf({1, 2}), scalar = tensor(3.f).requires_grad_();
  const Tensor matrix = ones({4, 2});
  sum(matrix * x * scalar).backward();
  CHECK(x.grad().shape() == Shape{2});
  CHECK(x.grad().to_vector<float>() == std::vector<float>{12, 12});
  CHECK(scalar.grad().shape() == Shape{});
  CHECK(scalar.grad().item<float>() == 12.f);
}

TEST_CASE("gradients take the dtype of their input") {
  Tensor half = ones({3}, {.dtype = DType::f16}).requires_grad_();
  Tensor full_precision = leaf({1, 2, 3});
  sum(half * full_precision).backward();
  CHECK(half.grad().dtype() == DType::f16);
  CHECK(full_precision.grad().dtype() == DType::f32);
}

TEST_CASE("two leaves never share the memory of their gradients") {
  Tensor a = leaf({1, 2}), b = leaf({3, 4});
  (a + b).backward(ones({2}));
  a.grad().mul_(10);
  CHECK(b.grad().to_vector<float>() == std::vector<float>{1, 1});
}

TEST_CASE("grad returns gradients and leaves grad() alone") {
  Tensor x = leaf({2, 3}), y = leaf({5, 7});
  const Tensor z = sum(x * y);
  const auto gradients = grad({z}, {x, y});
  CHECK(gradients[0].to_vector<float>() == std::vector<float>{5, 7});
  CHECK(gradients[1].to_vector<float>() == std::vector<float>{2, 3});
  CHECK_FALSE(x.grad().defined());
}

TEST_CASE("grad of an intermediate result") {
  Tensor x = leaf({2, 3});
  const Tensor middle = x * x;
  const auto gradients = grad({sum(middle * middle)}, {middle});
  CHECK(gradients[0].to_vector<float>() == std::vector<float>{8, 18});
}

TEST_CASE("higher derivatives") {
  Tensor x = leaf({2, 3});
  const Tensor cubes = sum(x * x * x);
  const auto first = grad({cubes}, {x}, {.create_graph = true});
  const auto second = grad({sum(first[0])}, {x}, {.create_graph = true});
  CHECK(first[0].to_vector<float>() == std::vector<float>{12, 27});
  CHECK(second[0].to_vector<float>() == std::vector<float>{12, 18});
  const auto third = grad({sum(second[0])}, {x});
  CHECK(third[0].to_vector<float>() == std::vector<float>{6, 6});
}

TEST_CASE("NoGrad and EnableGrad nest") {
  Tensor x = leaf({1});
  {
    const NoGrad off;
    CHECK_FALSE(is_grad_enabled());
    CHECK_FALSE((x * 2.0).requires_grad());
    {
      const EnableGrad on;
      CHECK((x * 2.0).requires_grad());
    }
    CHECK_FALSE(is_grad_enabled());
  }
  CHECK((x * 2.0).requires_grad());
}

TEST_CASE("detach cuts the graph and shares memory") {
  Tensor x = leaf({1, 2});
  const Tensor y = (x * 3.0).detach();
  CHECK_FALSE(y.requires_grad());
  CHECK(y.is_leaf());
  CHECK(x.detach().storage().get() == x.storage().get());
}

TEST_CASE("retain_graph allows a second pass") {
  Tensor x = leaf({3});
  const Tensor y = sum(x * x);
  y.backward(Tensor(), true);
  y.backward();
  CHECK(x.grad().item<float>() == 12.f);
}

TEST_CASE("hooks see gradients and may replace them") {
  Tensor x = leaf({1, 2});
  const Tensor y = x * 2.0;
  Tensor seen;
  y.register_hook([&](const Tensor& g) {
    seen = g;
    return g * 10.0;
  });
  x.register_hook([](const Tensor& g) { return g + 1.0; });
  sum(y).backward();
  CHECK(seen.to_vector<float>() == std::vector<float>{1, 1});
  CHECK(x.grad().to_vector<float>() == std::vector<float>{21, 21});
}

TEST_CASE("retain_grad keeps the gradient of a result") {
  Tensor x = leaf({1, 2});
  const Tensor y = x * 2.0;
  y.retain_grad();
  sum(y * y).backward();
  CHECK(y.grad().to_vector<float>() == std::vector<float>{4, 8});
}

TEST_CASE("leaf hooks run once per pass, when the gradient is complete") {
  Tensor x = leaf({1, 2});
  int calls = 0;
  const uint64_t number = add_leaf_hook(x, [&](const Tensor& self) {
    ++calls;
    CHECK(self.grad().to_vector<float>() == std::vector<float>{5, 7});
  });
  sum(x * x + x * 3.0).backward();
  CHECK(calls == 1);
  CHECK(reached_by_backward(x));
  remove_leaf_hook(x, number);
  sum(x).backward();
  CHECK(calls == 1);
}

TEST_CASE("a gradient buffer is where the gradient lives") {
  Tensor x = leaf({1, 2});
  const Tensor arena = full({4}, 9.0);
  set_grad_buffer(x, arena.slice(0, 2, 4));
  sum(x * x).backward();
  CHECK(arena.to_vector<float>() == std::vector<float>{9, 9, 2, 4});
  sum(x).backward();
  CHECK(arena.to_vector<float>() == std::vector<float>{9, 9, 3, 5});
  x.set_grad({});
  CHECK_FALSE(x.grad().defined());
  sum(x).backward();
  CHECK(arena.to_vector<float>() == std::vector<float>{9, 9, 1, 1});
  set_grad_buffer(x, {});
  CHECK(x.grad().to_vector<float>() == std::vector<float>{1, 1});
  CHECK(x.grad().storage().get() != arena.storage().get());
}

TEST_CASE("callbacks run at the end of the pass") {
  Tensor x = leaf({1});
  bool called = false;
  x.register_hook([&](const Tensor&) {
    queue_callback([&] {
      called = true;
      CHECK(x.grad().defined());
    });
    return Tensor();
  });
  sum(x * 2.0).backward();
  CHECK(called);
}

TEST_CASE("a failing backward leaves the leaves usable") {
  Tensor x = leaf({1, 2});
  const Tensor y = x * 2.0;
  bool fail = true;
  y.register_hook([&](const Tensor&) -> Tensor {
    if (fail) throw std::runtime_error("hook failed");
    return Tensor();
  });
  CHECK_THROWS_WITH_AS(sum(y).backward(Tensor(), true), "hook failed", std::runtime_error);
  fail = false;
  sum(x * 3.0).backward();
  CHECK(x.grad().to_vector<float>() == std::vector<float>{3, 3});
}

TEST_CASE("a chain of 100,000 nodes runs backward and goes away without recursion") {
  Tensor x = leaf({1});
  {
    Tensor y = x;
    for (int i = 0; i < 100000; ++i) y = y + 1.0;
    y.backward();
    CHECK(x.grad().item<float>() == 1.f);
  }
  Tensor z = x;
  for (int i = 0; i < 100000; ++i) z = z * 1.0;
  z = Tensor();  // never run: the nodes and what they saved are freed here
  CHECK(x.grad().item<float>() == 1.f);
}

TEST_CASE("backward through several outputs") {
  Tensor x = leaf({1, 2, 3, 4});
  const auto parts = split(x, 2);
  backward({sum(parts[0] * 2.0), sum(parts[1] * 3.0)});
  CHECK(x.grad().to_vector<float>() == std::vector<float>{2, 2, 3, 3});
}

TEST_CASE("in-place changes are followed, or refused where they cannot be") {
  Tensor x = leaf({1, 2});
  Tensor y = x * 1.0;
  y.mul_(3);
  y.add_(x);
  sum(y).backward();
  CHECK(x.grad().to_vector<float>() == std::vector<float>{4, 4});

  check_error<ArgumentError>("in_place_on_leaf", [&] { x.add_(1); });
  check_error<ArgumentError>("in_place_on_view", [&] {
    Tensor row = (x * 1.0).slice(0, 0, 1);
    row.add_(1);
  });
  check_error<ArgumentError>("saved_tensor_changed", [&] {
    Tensor a = x * 1.0;
    const Tensor product = a * a;
    {
      const NoGrad guard;
      a.add_(1);
    }
    sum(product).backward();
  });
  check_error<ArgumentError>("view_of_changed_memory", [&] {
    Tensor base = x * 1.0;
    const Tensor view = base.slice(0, 0, 1);
    base.mul_(2);
    sum(view).backward();
    static_cast<void>(view * 2.0);
  });
  {
    const NoGrad guard;
    x.add_(1);
    CHECK(x.to_vector<float>() == std::vector<float>{2, 3});
  }
}

TEST_CASE("create_graph leaves gradients in memory of their own") {
  Tensor a = leaf({1}), b = leaf({2}), c = leaf({2});
  sum((a + b) * c).backward(Tensor(), false, true);
  sum((a + b) * c).backward();
  CHECK(a.grad().item<float>() == 4.f);
  CHECK(b.grad().item<float>() == 4.f);
  Tensor given = ones({1});
  (a * 1.0).backward(given, false, true);
  sum(a).backward();
  CHECK(given.item<float>() == 1.f);
}

TEST_CASE("grad runs only what leads to its inputs, and keeps the rest of the graph") {
  Tensor x = leaf({2}), y = leaf({3});
  int calls = 0;
  const Tensor inner = x * x;
  inner.register_hook([&](const Tensor&) {
    ++calls;
    return Tensor();
  });
  x.register_hook([&](const Tensor&) {
    ++calls;
    return Tensor();
  });
  const Tensor z = sum(inner * y);
  const auto gradients = grad({z}, {y}, {.retain_graph = true});
  CHECK(gradients[0].item<float>() == 4.f);
  grad({z}, {inner});
  CHECK(calls == 1);  // inner's own, as its gradient was asked for
  sum(inner).backward();
  CHECK(x.grad().item<float>() == 4.f);
}

TEST_CASE("a callback may queue another one") {
  Tensor x = leaf({1});
  int called = 0;
  x.register_hook([&](const Tensor&) {
    queue_callback([&] {
      ++called;
      queue_callback([&] { ++called; });
    });
    return Tensor();
  });
  sum(x).backward();
  CHECK(called == 2);
}

TEST_CASE("a view from before its base had a history is refused") {
  Tensor w = leaf({1, 2, 3});
  Tensor base = zeros({3});
  const Tensor view = base.view({3});
  base.add_(w);
  check_error<ArgumentError>("view_before_history", [&] { view* w; });
  sum(base.view({3}) * w).backward();
  CHECK(w.grad().to_vector<float>() == std::vector<float>{2, 4, 6});
}

TEST_CASE("a pass inside of a pass must not reach what the outer one adds up") {
  Tensor w = leaf({3}), x = leaf({2});
  const Tensor y = x * w;
  y.register_hook([&](const Tensor&) {
    const EnableGrad on;
    sum(w.detach().requires_grad_() * 2.0).backward();  // of its own: fine
    return Tensor();
  });
  sum(y).backward();
  CHECK(w.grad().item<float>() == 2.f);
  const Tensor z = x * w;
  z.register_hook([&](const Tensor&) {
    const EnableGrad on;
    sum(w * 5.0).backward();
    return Tensor();
  });
  check_error<ArgumentError>("backward_nested", [&] { sum(z).backward(); });
}

TEST_CASE("a throwing pack hook leaves nothing behind") {
  Tensor x = ones({1 << 16}).requires_grad_();
  const int64_t before = memory_stats().allocated;
  for (int i = 0; i < 4; ++i) {
    const SavedTensorHooks hooks(
        [](const Tensor&) -> std::shared_ptr<void> { throw std::runtime_error("no place"); },
        [](const std::shared_ptr<void>&) { return Tensor(); });
    CHECK_THROWS_AS(x * x, std::runtime_error);
  }
  CHECK(memory_stats().allocated == before);
}

TEST_CASE("errors of backward and grad") {
  Tensor x = leaf({1, 2}), unused = leaf({1});
  check_error<ArgumentError>("backward_freed_graph", [&] {
    const Tensor y = sum(x * x);
    y.backward();
    y.backward();
  });
  check_error<ArgumentError>("backward_no_grad", [&] { ones({2}).backward(ones({2})); });
  check_error<ArgumentError>("backward_needs_gradient", [&] { (x * 2.0).backward(); });
  check_error<ArgumentError>("backward_gradient_shape", [&] { (x * 2.0).backward(ones({3})); });
  check_error<ArgumentError>("backward_gradient_count", [&] {
    backward({sum(x), sum(x * 2.0)}, {.grad_outputs = {ones({})}});
  });
  check_error<DeviceError>("backward_gradient_device",
                           [&] { (x * 2.0).backward(ones({2}, {.device = Device::sim()})); });
  check_error<ArgumentError>("backward_gradient_dtype",
                             [&] { (x * 2.0).backward(ones({2}, {.dtype = DType::f64})); });
  check_error<ArgumentError>("grad_unused", [&] { grad({sum(x)}, {x, unused}); });
  check_error<ArgumentError>("grad_of_constant", [&] { grad({sum(x)}, {ones({1})}); });
  check_error<ArgumentError>("grad_nothing", [&] { grad({}, {x}); });
  check_error<ArgumentError>("requires_grad_integer", [&] { arange(3).requires_grad_(); });
  check_error<ArgumentError>("requires_grad_result", [&] { (x * 2.0).requires_grad_(false); });
  check_error<ArgumentError>("register_hook_constant",
                             [&] { ones({1}).register_hook([](const Tensor& g) { return g; }); });
  check_error<ArgumentError>("retain_grad_constant", [&] { ones({1}).retain_grad(); });
  check_error<ArgumentError>("queue_callback_outside", [&] { queue_callback([] {}); });
  check_error<ArgumentError>("set_grad_shape", [&] { x.set_grad(ones({3})); });
  check_error<ArgumentError>("set_grad_dtype",
                             [&] { x.set_grad(ones({2}, {.dtype = DType::f64})); });
  check_error<ArgumentError>("leaf_hook_on_result",
                             [&] { add_leaf_hook(x * 2.0, [](const Tensor&) {}); });
  const auto results = grad({sum(x)}, {x, unused}, {.allow_unused = true});
  CHECK_FALSE(results[1].defined());
}

TEST_CASE("anomaly detection names the op") {
  Tensor x = leaf({0.f});
  const DetectAnomaly guard;
  check_error<ArgumentError>("anomaly", [&] { sum(sqrt(x) * 0.0).backward(); });
}
