// Optimizers against formulas written out here, their state, groups, gradients' limits.
#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <weft/autograd/autograd.hpp>
#include <weft/core/base/error.hpp>
#include <weft/core/io/safetensors.hpp>
#include <weft/core/ops.hpp>
#include <weft/core/random.hpp>
#include <weft/nn/nn.hpp>
#include <weft/tests/support/errors.hpp>
#include <weft/tests/support/temp_dir.hpp>

using namespace weft;
using weft::test::check_error;

namespace {

using Made = std::unique_ptr<optim::Optimizer>;
using Maker = std::function<Made(std::vector<Tensor>)>;

/// One of each kind, with options that use every part of its formula.
const std::vector<std::pair<std::string, Maker>>& makers() {
  static const std::vector<std::pair<std::string, Maker>> list = {
      {"SGD",
       [](std::vector<Tensor> p) -> Made {
         return std::make_unique<optim::SGD>(p, optim::SGDOptions{.lr = 0.1});
       }},
      {"SGD momentum",
       [](std::vector<Tensor> p) -> Made {
         return std::make_unique<optim::SGD>(
             p,
             optim::SGDOptions{.lr = 0.1, .momentum = 0.9, .weight_decay = 0.01, .nesterov = true});
       }},
      {"Adam",
       [](std::vector<Tensor> p) -> Made {
         return std::make_unique<optim::Adam>(
             p, optim::AdamOptions{.lr = 0.1, .weight_decay = 0.01, .amsgrad = true});
       }},
      {"AdamW",
       [](std::vector<Tensor> p) -> Made {
         return std::make_unique<optim::AdamW>(
             p, optim::AdamWOptions{.lr = 0.1, .betas = {0.9, 0.95}, .weight_decay = 0.1});
       }},
      {"NAdam",
       [](std::vector<Tensor> p) -> Made {
         return std::make_unique<optim::NAdam>(p, optim::NAdamOptions{.lr = 0.1});
       }},
      {"Adamax",
       [](std::vector<Tensor> p) -> Made {
         return std::make_unique<optim::Adamax>(p, optim::AdamaxOptions{.lr = 0.1});
       }},
      {"RMSprop",
       [](std::vector<Tensor> p) -> Made {
         return std::make_unique<optim::RMSprop>(
             p, optim::RMSpropOptions{.lr = 0.05, .momentum = 0.5, .centered = true});
       }},
      {"Adagrad",
       [](std::vector<Tensor> p) -> Made {
         return std::make_unique<optim::Adagrad>(
             p,
             optim::AdagradOptions{.lr = 0.5, .lr_decay = 0.01, .initial_accumulator_value = 0.1});
       }},
      {"Adadelta",
       [](std::vector<Tensor> p) -> Made {
         return std::make_unique<optim::Adadelta>(p, optim::AdadeltaOptions{.lr = 5.0});
       }},
  };
  return list;
}

Tensor leaf(const Shape& shape, DType dtype = DType::f32, Device device = Device::cpu()) {
  Tensor t = arange(0, shape.numel(), 1, {.dtype = DType::f32}).reshape(shape) / 7.0 - 1.0;
  return t.to(device, dtype).detach().clone().requires_grad_();
}

/// Steps with the gradients sin(parameter number + step).
void take_steps(optim::Optimizer& optimizer, const Tensor& p, int64_t first, int64_t count) {
  for (int64_t t = first; t < first + count; ++t) {
    const Tensor numbers = arange(0, p.numel(), 1, {.dtype = DType::f32}) + static_cast<double>(t);
    p.set_grad(sin(numbers).reshape(p.shape()).to(p.device(), p.dtype()));
    optimizer.step();
  }
}

double gradient(int64_t i, int64_t t) { return std::sin(static_cast<double>(i + t)); }

void check_close(const Tensor& got, const std::function<double(int64_t)>& want, double bound) {
  const std::vector<double> values = got.detach().to_vector<double>();
  for (size_t i = 0; i < values.size(); ++i) {
    CAPTURE(i);
    CHECK(values[i] == doctest::Approx(want(static_cast<int64_t>(i))).epsilon(bound));
  }
}

double start(int64_t i) { return static_cast<double>(i) / 7.0 - 1.0; }

}  // namespace

TEST_CASE("SGD with momentum, Nesterov's and weight decay") {
  const Tensor p = leaf({5, 7});
  optim::SGD optimizer({p}, {.lr = 0.1, .momentum = 0.9, .weight_decay = 0.02, .nesterov = true});
  take_steps(optimizer, p, 0, 4);
  check_close(
      p,
      [](int64_t i) {
        double x = start(i), buffer = 0;
        for (int64_t t = 0; t < 4; ++t) {
          const double g = gradient(i, t) + 0.02 * x;
          buffer = t == 0 ? g : 0.9 * buffer + g;
          x -= 0.1 * (g + 0.9 * buffer);
        }
        return x;
      },
      1e-5);
}

TEST_CASE("SGD dampens from the second step on, and maximizes") {
  const Tensor p = leaf({3});
  optim::SGD optimizer({p}, {.lr = 0.1, .momentum = 0.5, .dampening = 0.25, .maximize = true});
  take_steps(optimizer, p, 0, 3);
  check_close(
      p,
      [](int64_t i) {
        double x = start(i), buffer = 0;
        for (int64_t t = 0; t < 3; ++t) {
          const double g = -gradient(i, t);
          buffer = t == 0 ? g : 0.5 * buffer + 0.75 * g;
          x -= 0.1 * buffer;
        }
        return x;
      },
      1e-5);
}

TEST_CASE("AdamW shrinks the parameter, Adam adds to the gradient") {
  for (const bool decoupled : {true, false}) {
    const Tensor p = leaf({4, 9});
    const Made optimizer =
        decoupled ? Made(std::make_unique<optim::AdamW>(
                        std::vector<Tensor>{p},
                        optim::AdamWOptions{.lr = 0.01, .betas = {0.9, 0.95}, .weight_decay = 0.1}))
                  : Made(std::make_unique<optim::Adam>(
                        std::vector<Tensor>{p},
                        optim::AdamOptions{.lr = 0.01, .betas = {0.9, 0.95}, .weight_decay = 0.1}));
    take_steps(*optimizer, p, 0, 5);
    check_close(
        p,
        [decoupled](int64_t i) {
          double x = start(i), m = 0, v = 0;
          for (int64_t t = 1; t <= 5; ++t) {
            double g = gradient(i, t - 1);
            if (decoupled)
              x *= 1 - 0.01 * 0.1;
            else
              g += 0.1 * x;
            m = 0.9 * m + 0.1 * g;
            v = 0.95 * v + 0.05 * g * g;
            const double mean = m / (1 - std::pow(0.9, t)), square = v / (1 - std::pow(0.95, t));
            x -= 0.01 * mean / (std::sqrt(square) + 1e-8);
          }
          return x;
        },
        2e-5);
  }
}

TEST_CASE("every optimizer finds the minimum of a bowl, on cpu and on sim alike") {
  for (const auto& [name, make] : makers()) {
    const auto& shown = name;  // clang 14 captures no structured binding
    CAPTURE(shown);
    std::vector<std::vector<float>> ends;
    for (const Device device : {Device::cpu(), Device::sim(0)}) {
      const Tensor p = leaf({4}, DType::f32, device);
      const Made optimizer = make({p});
      double first = 0, loss_now = 0;
      for (int step = 0; step < 60; ++step) {
        optimizer->zero_grad();
        const Tensor loss = sum(square(p - 0.5));
        loss.backward();
        optimizer->step();
        loss_now = loss.item<double>();
        if (step == 0) first = loss_now;
      }
      CHECK(loss_now < 0.3 * first);
      CHECK(p.version() >= 60);
      ends.push_back(p.to_vector<float>());
    }
    CHECK(ends[0] == ends[1]);
  }
}

TEST_CASE("16-bit and f64 parameters: states in f32 and f64, arithmetic in float and double") {
  for (const auto& [name, make] : makers())
    for (const DType dtype : {DType::f64, DType::bf16, DType::f16}) {
      const auto& shown = name;  // clang 14 captures no structured binding
      CAPTURE(shown);
      CAPTURE(name_of(dtype));
      const Tensor exact = leaf({37}), p = leaf({37}, dtype);
      const Made a = make({exact}), b = make({p});
      take_steps(*a, exact, 0, 3);
      take_steps(*b, p, 0, 3);
      const std::vector<double> want = exact.to_vector<double>(), got = p.to_vector<double>();
      const double bound = dtype == DType::f64 ? 1e-5 : dtype == DType::f16 ? 0.01 : 0.06;
      for (size_t i = 0; i < want.size(); ++i) CHECK(std::abs(want[i] - got[i]) < bound * 6);
      for (const Tensor& slot : b->state(0).slots)
        if (slot.defined()) CHECK(slot.dtype() == (dtype == DType::f64 ? DType::f64 : DType::f32));
    }
}

TEST_CASE("large parameters are stepped by several threads to the same bits") {
  const Tensor whole = leaf({300001});
  const Tensor part = whole.detach().slice(0, 299000, 300001).clone().requires_grad_();
  optim::AdamW a({whole}), b({part});
  whole.set_grad(whole.detach().clone());
  part.set_grad(part.detach().clone());
  a.step();
  b.step();
  CHECK(whole.detach().slice(0, 299000, 300001).to_vector<float>() == part.to_vector<float>());
}

TEST_CASE("parameters without a gradient are passed over; meta costs nothing") {
  const Tensor p = leaf({3}), q = leaf({3});
  optim::AdamW optimizer({p, q});
  p.set_grad(ones({3}));
  const std::vector<float> before = q.to_vector<float>();
  optimizer.step();
  CHECK(q.to_vector<float>() == before);
  CHECK(optimizer.state(0).step == 1);
  CHECK(optimizer.state(1).step == 0);
  const Tensor m = empty({1 << 20, 1 << 10}, {.device = Device::meta(), .requires_grad = true});
  optim::AdamW on_meta({m});
  m.set_grad(empty_like(m));
  on_meta.step();
  CHECK(on_meta.state(0).slots[0].device().is_meta());
}

TEST_CASE("groups have numbers of their own") {
  const Tensor p = leaf({3}), q = leaf({3}), r = leaf({3});
  optim::SGD optimizer({{.params = {p}, .lr = 0.5}, {.params = {q}, .weight_decay = 1.0}},
                       {.lr = 0.1});
  optimizer.add_param_group({.params = {r}, .lr = 0.0});
  CHECK(optimizer.groups().size() == 3);
  for (const Tensor& t : {p, q, r}) t.set_grad(ones({3}));
  optimizer.step();
  check_close(
      p, [](int64_t i) { return start(i) - 0.5; }, 1e-5);
  check_close(
      q, [](int64_t i) { return start(i) - 0.1 * (1 + start(i)); }, 1e-5);
  check_close(r, start, 1e-6);
}

TEST_CASE("zero_grad drops or zeroes; a closed gate stops both verbs") {
  const Tensor p = leaf({2});
  optim::SGD optimizer({p}, {.lr = 1});
  p.set_grad(ones({2}));
  bool open = false;
  optimizer.set_gate([&open] { return open; });
  optimizer.step();
  optimizer.zero_grad();
  CHECK(p.grad().defined());
  check_close(p, start, 1e-6);
  open = true;
  optimizer.zero_grad(false);
  CHECK(p.grad().to_vector<float>() == std::vector<float>{0, 0});
  optimizer.zero_grad();
  CHECK_FALSE(p.grad().defined());
}

TEST_CASE("an optimizer goes on from its saved state as if it had not stopped") {
  const test::TempDir folder;
  for (const auto& [name, make] : makers()) {
    const auto& shown = name;  // clang 14 captures no structured binding
    CAPTURE(shown);
    const Tensor straight = leaf({6}), stopped = leaf({6});
    const Made whole = make({straight}), before = make({stopped});
    take_steps(*whole, straight, 0, 6);
    take_steps(*before, stopped, 0, 3);
    before->groups()[0].lr *= 0.5;
    const std::string file = (folder / "optimizer.safetensors").string();
    io::save_safetensors(file, before->state_dict());
    const Made after = make({stopped});
    after->load_state_dict(io::load_safetensors(file));
    CHECK(after->groups()[0].lr == before->groups()[0].lr);
    after->groups()[0].lr *= 2;
    take_steps(*after, stopped, 3, 3);
    CHECK(straight.to_vector<float>() == stopped.to_vector<float>());
  }
}

TEST_CASE("states follow a model that is moved") {
  nn::Linear layer(nn::Place{}, 2, 2);
  optim::AdamW optimizer(layer.parameters());
  for (const Device device : {Device::cpu(), Device::sim(0), Device::cpu()}) {
    layer.to(device);
    optimizer.zero_grad();
    sum(layer(ones({1, 2}, {.device = device}))).backward();
    optimizer.step();
    CHECK(optimizer.state(0).slots[0].device() == device);
  }
  CHECK(optimizer.state(0).step == 3);
}

TEST_CASE("what an optimizer refuses") {
  const Tensor p = leaf({2, 3});
  check_error<ArgumentError>("optim_no_parameters",
                             [] { optim::AdamW bad(std::vector<Tensor>{}); });
  check_error<ArgumentError>("optim_twice", [&] { optim::SGD bad({p, p}); });
  check_error<ArgumentError>("optim_no_leaf", [&] { optim::SGD bad({p * 2.0}); });
  check_error<ArgumentError>("optim_integers",
                             [] { optim::SGD bad({zeros({2}, {.dtype = DType::i64})}); });
  check_error<ArgumentError>("optim_lr", [&] { optim::SGD bad({p}, {.lr = -1}); });
  check_error<ArgumentError>("optim_betas", [&] { optim::Adam bad({p}, {.betas = {1.0, 0.9}}); });
  check_error<ArgumentError>("optim_nesterov", [&] { optim::SGD bad({p}, {.nesterov = true}); });
  check_error<ArgumentError>("optim_rho", [&] { optim::Adadelta bad({p}, {.rho = 1.5}); });
  optim::AdamW optimizer({p});
  StateDict dict = optimizer.state_dict();
  dict.erase(dict.begin());
  dict.emplace_back("state.0.exp_avg", zeros({3}));
  dict.emplace_back("state.7.exp_avg", zeros({3}));
  check_error<ArgumentError>("optim_load_state", [&] { optimizer.load_state_dict(dict); });
  const Tensor turned = arange(0, 6, 1, {.dtype = DType::f32}).view({2, 3}).transpose(0, 1);
  const Tensor strided = turned.detach();
  optim::SGD on_strided({Tensor(strided).requires_grad_()});
  strided.set_grad(ones({3, 2}));
  check_error<ArgumentError>("optim_not_packed", [&] { on_strided.step(); });
}

TEST_CASE("clip_grad_norm_ scales all gradients to a common norm") {
  const Tensor p = leaf({2}), q = leaf({1}), unused = leaf({1});
  const auto set = [&] {
    p.set_grad(tensor({3.0, 0.0}));
    q.set_grad(tensor({4.0}));
  };
  set();
  CHECK(nn::clip_grad_norm_({p, q, unused}, 10.0).item<double>() == doctest::Approx(5));
  CHECK(p.grad().to_vector<float>() == std::vector<float>{3, 0});
  CHECK(nn::clip_grad_norm_({p, q, unused}, 1.0).item<double>() == doctest::Approx(5));
  CHECK(p.grad().to_vector<float>()[0] == doctest::Approx(0.6));
  CHECK(q.grad().to_vector<float>()[0] == doctest::Approx(0.8));
  set();
  CHECK(optim::clip_grad_norm_({p, q}, 2.0, {.norm_type = INFINITY}).item<double>() ==
        doctest::Approx(4));
  CHECK(p.grad().to_vector<float>()[0] == doctest::Approx(1.5));
  set();
  CHECK(nn::clip_grad_norm_({p, q}, 100.0, {.norm_type = 1}).item<double>() == doctest::Approx(7));
  CHECK(nn::clip_grad_norm_({unused}, 1.0).item<double>() == 0);
  p.set_grad(tensor({NAN, 0.f}));
  CHECK(std::isnan(nn::clip_grad_norm_({p}, 1.0).item<double>()));
  check_error<ArgumentError>("clip_nonfinite",
                             [&] { nn::clip_grad_norm_({p}, 1.0, {.error_if_nonfinite = true}); });
  check_error<ArgumentError>("clip_max_norm", [&] { nn::clip_grad_norm_({p}, -1.0); });
  check_error<ArgumentError>("clip_norm_type",
                             [&] { nn::clip_grad_norm_({p}, 1.0, {.norm_type = 0}); });
  set();
  nn::clip_grad_value_({p, q, unused}, 3.5);
  CHECK(p.grad().to_vector<float>() == std::vector<float>{3, 0});
  CHECK(q.grad().to_vector<float>() == std::vector<float>{3.5});
  check_error<ArgumentError>("clip_value", [&] { nn::clip_grad_value_({p}, -1.0); });
}
