// Saved tensors: hooks, recomputation, user functions, gradcheck.
#include <doctest/doctest.h>

#include <thread>

#include <weft/autograd/autograd.hpp>
#include <weft/core/base/error.hpp>
#include <weft/core/memory.hpp>
#include <weft/core/ops.hpp>
#include <weft/core/random.hpp>

#include <weft/tests/support/errors.hpp>

using namespace weft;
using weft::test::check_error;

TEST_CASE("saved-tensor hooks pack and unpack everything that is saved") {
  Tensor x = tensor({1.f, 2.f}).requires_grad_();
  int packed = 0, unpacked = 0;
  Tensor y;
  {
    const SavedTensorHooks hooks(
        [&](const Tensor& t) -> std::shared_ptr<void> {
          ++packed;
          return std::make_shared<std::vector<float>>(t.to_vector<float>());
        },
        [&](const std::shared_ptr<void>& value) {
          ++unpacked;
          return tensor(*std::static_pointer_cast<std::vector<float>>(value));
        });
    y = sum(x * x);
  }
  const Tensor z = x * x;  // outside: saved as it is
  CHECK(packed == 2);
  y.backward();
  CHECK(unpacked == 2);
  CHECK(x.grad().to_vector<float>() == std::vector<float>{2, 4});
  CHECK(packed == 2);
  CHECK(z.requires_grad());
}

TEST_CASE("checkpoint recomputes, with the same random numbers, and gives the same gradients") {
  manual_seed(7);
  Tensor x = randn({64}), w = randn({64});
  x.requires_grad_();
  w.requires_grad_();
  int calls = 0;
  std::vector<Phase> phases;
  const auto block = [&](const Tensor& input) {
    ++calls;
    phases.push_back(current_phase());
    return dropout(tanh(input * w), 0.5, true) * input;
  };
  manual_seed(3);
  sum(block(x)).backward();
  const auto expected_x = x.grad().to_vector<float>(), expected_w = w.grad().to_vector<float>();
  x.set_grad({});
  w.set_grad({});
  calls = 0;
  phases.clear();
  manual_seed(3);
  const Tensor y = sum(checkpoint(block, x));
  CHECK(calls == 1);
  const auto state_before = random_state();
  y.backward();
  CHECK(calls == 2);
  CHECK(phases == std::vector<Phase>{Phase::forward, Phase::recompute});
  CHECK(random_state().offset == state_before.offset);
  CHECK(x.grad().to_vector<float>() == expected_x);
  CHECK(w.grad().to_vector<float>() == expected_w);
}

TEST_CASE("checkpoint keeps less memory between forward and backward") {
  Tensor x = ones({1 << 16}).requires_grad_();
  const auto deep = [](const Tensor& input) {
    Tensor y = input;
    for (int i = 0; i < 8; ++i) y = y * y;
    return y;
  };
  const auto held = [&](auto&& run) {
    const int64_t before = memory_stats().allocated;
    const Tensor y = run();
    return memory_stats().allocated - before;
  };
  const int64_t plain = held([&] { return deep(x); });
  const int64_t saved = held([&] { return checkpoint(deep, x); });
  CHECK(saved < plain / 4);
}

TEST_CASE("second derivatives through checkpoint") {
  Tensor x = tensor({2.f, 3.f}).requires_grad_();
  const auto cube = [](const Tensor& t) { return t * t * t; };
  const auto first = grad({sum(checkpoint(cube, x))}, {x}, {.create_graph = true});
  const auto second = grad({sum(first[0])}, {x});
  CHECK(second[0].to_vector<float>() == std::vector<float>{12, 18});
}

TEST_CASE("checkpoint of a function that does something else the second time") {
  Tensor x = tensor({2.f}).requires_grad_();
  int calls = 0;
  const Tensor y = checkpoint(
      [&](const Tensor& t) {
        ++calls;
        return calls == 1 ? t * t : t * t * t;
      },
      x);
  check_error<ArgumentError>("checkpoint_differs", [&] { sum(y).backward(); });
}

TEST_CASE("an input of a checkpointed function must stay as it was") {
  Tensor x = tensor({3.f}).requires_grad_();
  const Tensor h = x * 1.0;
  const Tensor y = checkpoint([](const Tensor& t) { return t * t; }, h);
  {
    const NoGrad guard;
    Tensor(h).add_(1);
  }
  check_error<ArgumentError>("checkpoint_input_changed", [&] { sum(y).backward(); });
}

TEST_CASE("a user function may save its output, which goes away with the graph") {
  Tensor x = ones({1 << 16}).requires_grad_();
  const auto forward = [](FunctionContext& context, const std::vector<Tensor>& inputs) {
    const Tensor y = exp(inputs[0]);
    context.save_for_backward({y});
    return std::vector<Tensor>{y};
  };
  const auto backward = [](FunctionContext& context, const std::vector<Tensor>& gradients) {
    return std::vector<Tensor>{gradients[0] * context.saved_tensors()[0]};
  };
  sum(apply_function("my_exp", forward, backward, {x})[0]).backward();
  const int64_t before = memory_stats().allocated;
  for (int i = 0; i < 4; ++i) apply_function("my_exp", forward, backward, {x});
  CHECK(memory_stats().allocated == before);
  check_error<ArgumentError>("function_freed", [&] {
    const Tensor y = sum(apply_function("my_exp", forward, backward, {x})[0]);
    y.backward();
    y.backward();
  });
}

TEST_CASE("user functions") {
  Tensor x = tensor({1.f, -2.f}).requires_grad_();
  const auto forward = [](FunctionContext& context, const std::vector<Tensor>& inputs) {
    context.save_for_backward({inputs[0]});
    return std::vector<Tensor>{inputs[0] * inputs[0]};
  };
  const auto backward = [](FunctionContext& context, const std::vector<Tensor>& gradients) {
    return std::vector<Tensor>{gradients[0] * context.saved_tensors()[0] * 2.0};
  };
  const auto y = apply_function("my_square", forward, backward, {x});
  sum(y[0]).backward();
  CHECK(x.grad().to_vector<float>() == std::vector<float>{2, -4});

  check_error<ArgumentError>("function_wrong_count", [&] {
    const auto z = apply_function(
        "my_function", forward,
        [](FunctionContext&, const std::vector<Tensor>&) { return std::vector<Tensor>{}; }, {x});
    sum(z[0]).backward();
  });
  check_error<ArgumentError>("function_saved_changed", [&] {
    Tensor a = x * 1.0;
    const auto z = apply_function("my_square", forward, backward, {a});
    {
      const NoGrad guard;
      a.add_(1);
    }
    sum(z[0]).backward();
  });
}

TEST_CASE("deterministic mode is the process's, for all of its threads") {
  const bool before = is_deterministic();
  set_deterministic(true);
  bool elsewhere = false;
  std::thread([&] { elsewhere = is_deterministic(); }).join();
  CHECK(elsewhere);
  set_deterministic(before);
}

TEST_CASE("gradcheck agrees with right formulas and finds wrong ones") {
  Tensor x = tensor({0.5f, -1.5f}).to(DType::f64).requires_grad_();
  Tensor y = tensor({2.0f, 3.0f}).to(DType::f64).requires_grad_();
  CHECK(gradcheck([](const std::vector<Tensor>& in) { return tanh(in[0] * in[1]); }, {x, y},
                  {.second_order = true}) == "");
  const auto wrong = [](const std::vector<Tensor>& in) {
    return apply_function(
        "wrong",
        [](FunctionContext&, const std::vector<Tensor>& inputs) {
          return std::vector<Tensor>{inputs[0] * 2.0};
        },
        [](FunctionContext&, const std::vector<Tensor>& gradients) {
          return std::vector<Tensor>{gradients[0] * 3.0};
        },
        {in[0]})[0];
  };
  CHECK(gradcheck(wrong, {x}).find("backward gives") != std::string::npos);
  check_error<ArgumentError>("gradcheck_f32", [&] {
    Tensor single = tensor({1.f}).requires_grad_();
    gradcheck([](const std::vector<Tensor>& in) { return in[0] * 2.0; }, {single});
  });
}
