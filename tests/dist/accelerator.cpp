// The Accelerator: the same loop on any number of ranks.
#include <doctest/doctest.h>

#include <cmath>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include <weft/autograd/autograd.hpp>
#include <weft/autograd/leaf.hpp>
#include <weft/core/base/error.hpp>
#include <weft/core/ops.hpp>
#include <weft/dist/accelerator.hpp>
#include <weft/nn/data/data_loader.hpp>
#include <weft/nn/nn.hpp>
#include <weft/nn/optim/optimizers.hpp>
#include <weft/nn/optim/schedules.hpp>
#include <weft/tests/dist/ranks.hpp>
#include <weft/tests/support/environment.hpp>
#include <weft/tests/support/errors.hpp>

using namespace weft;
using namespace weft::dist;
using namespace weft::test;

namespace {

struct Net : nn::Layer<Net> {
  nn::Linear fc1, fc2;
  explicit Net(nn::At at, int64_t hidden = 8)
      : Layer(at), fc1(sub("fc1"), 3, hidden), fc2(sub("fc2"), hidden, 2) {}
  Tensor forward(const Tensor& x) { return fc2(tanh(fc1(x))); }
};

// First values are drawn from the process's generator, set to the seed for that time: ranks that
// are threads take turns.
Net make_net(int seed) {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  return Net(nn::At(nn::Place{}, static_cast<uint64_t>(seed)));
}

data::TensorDataset make_data(int64_t count) {
  std::vector<float> x(static_cast<size_t>(count * 3)), y(static_cast<size_t>(count * 2));
  for (size_t i = 0; i < x.size(); ++i) x[i] = std::sin(0.9f * static_cast<float>(i));
  for (size_t i = 0; i < y.size(); ++i) y[i] = std::cos(0.4f * static_cast<float>(i));
  return data::TensorDataset(from_host(x.data(), {count, 3}, DType::f32),
                             from_host(y.data(), {count, 2}, DType::f32));
}

std::vector<float> weights_of(const nn::Module& module) {
  std::vector<float> all;
  for (const Tensor& parameter : module.parameters()) {
    const auto values = parameter.detach().to_vector<float>();
    all.insert(all.end(), values.begin(), values.end());
  }
  return all;
}

bool close(const std::vector<float>& a, const std::vector<float>& b, float bound = 5e-6f) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i)
    if (std::abs(a[i] - b[i]) > bound) return false;
  return true;
}

struct Trained {
  std::vector<float> weights, losses;
};

struct Recipe {
  int64_t examples = 22;  // the last batch of 8 has 6: parts of 4 ranks differ
  int epochs = 2;
  int64_t accumulation = 1;
  bool zero_grad_first = true;
};

/// The loop of api.md, with the losses that all ranks agree on.
Trained train(const std::optional<Group>& group, const Recipe& recipe) {
  Accelerator accelerator(
      {.gradient_accumulation_steps = recipe.accumulation, .split_batches = true, .group = group});
  Net net = make_net(1 + accelerator.process_index());  // rank 0's values count
  optim::SGD optimizer(net.parameters(), {.lr = 0.1});
  optim::StepLR scheduler(optimizer, {.step_size = 2, .gamma = 0.5});
  const data::TensorDataset dataset = make_data(recipe.examples);
  data::DataLoader loader(dataset, {.batch_size = 8, .shuffle = true, .seed = 3});
  accelerator.prepare(loader, optimizer, net, scheduler);
  Trained result;
  for (int epoch = 0; epoch < recipe.epochs; ++epoch)
    for (auto& [inputs, targets] : loader) {
      const auto guard = accelerator.accumulate(net);
      if (recipe.zero_grad_first) optimizer.zero_grad();
      const Tensor loss = mse_loss(net(inputs), targets);
      accelerator.backward(loss);
      accelerator.clip_grad_norm_(net.parameters(), 10.0);
      optimizer.step();
      scheduler.step();
      if (!recipe.zero_grad_first) optimizer.zero_grad();
      result.losses.push_back(accelerator.average(loss).item<float>());
    }
  result.weights = weights_of(net);
  return result;
}

void check_parity(const Recipe& recipe) {
  const Trained expected = train(std::nullopt, recipe);
  for (const int size : {2, 4})
    check_on_ranks(size, [&](const Group& group, Problems& problems) {
      const Trained got = train(group, recipe);
      std::string both;
      for (size_t i = 0; i < got.losses.size(); ++i)
        both += " " + std::to_string(got.losses[i]) + "/" + std::to_string(expected.losses[i]);
      problems.expect(close(got.losses, expected.losses), "losses differ:" + both);
      problems.expect(close(got.weights, expected.weights), "weights differ");
    });
}

}  // namespace

TEST_CASE("accelerator: 2 and 4 ranks train as one does, an uneven last batch included") {
  check_parity({});
}

TEST_CASE("accelerator: a last batch with fewer examples than ranks") {
  check_parity({.examples = 17});
}

TEST_CASE("accelerator: accumulated micro-batches, wherever zero_grad stands") {
  check_parity({.examples = 40, .accumulation = 2});
  check_parity({.examples = 22, .accumulation = 2, .zero_grad_first = false});
  const Trained first = train(std::nullopt, {.examples = 40, .accumulation = 2});
  const Trained last =
      train(std::nullopt, {.examples = 40, .accumulation = 2, .zero_grad_first = false});
  CHECK(first.weights == last.weights);
  CHECK(first.losses == last.losses);
}

TEST_CASE("accelerator: two micro-batches are one batch of twice the size") {
  const data::TensorDataset dataset = make_data(16);
  const auto run = [&](int64_t batch, int64_t accumulation) {
    Accelerator accelerator({.gradient_accumulation_steps = accumulation, .group = Group()});
    Net net = make_net(1);
    optim::SGD optimizer(net.parameters(), {.lr = 0.1, .momentum = 0.9});
    optim::StepLR scheduler(optimizer, {.step_size = 1, .gamma = 0.9});
    data::DataLoader loader(dataset, {.batch_size = batch});
    accelerator.prepare(net, optimizer, loader, scheduler);
    int synced = 0;
    for (int epoch = 0; epoch < 3; ++epoch)
      for (auto& [inputs, targets] : loader) {
        const auto guard = accelerator.accumulate();
        optimizer.zero_grad();
        accelerator.backward(mse_loss(net(inputs), targets));
        optimizer.step();
        scheduler.step();
        synced += accelerator.sync_gradients();
      }
    CHECK(synced == 6);
    CHECK(scheduler.last_step() == 6);
    return weights_of(net);
  };
  CHECK(close(run(4, 2), run(8, 1)));
}

TEST_CASE("accelerator: rank 0's parameters and buffers, and who is who") {
  struct Counting : nn::Layer<Counting> {
    nn::Linear fc;
    nn::Buffer count;
    explicit Counting(nn::At at)
        : Layer(at), fc(sub("fc"), 2, 2), count(sub("count"), [](nn::Place place) {
            return zeros({2}, {.device = place.device});
          }) {}
  };
  check_on_ranks(3, [](const Group& group, Problems& problems) {
    Accelerator accelerator({.group = group});
    problems.expect(accelerator.process_index() == group.rank() &&
                        accelerator.local_process_index() == group.rank() &&
                        accelerator.num_processes() == 3 && accelerator.device().is_cpu() &&
                        accelerator.is_main_process() == (group.rank() == 0) &&
                        accelerator.is_local_main_process() == (group.rank() == 0),
                    "facts");
    Counting model(nn::At(nn::Place{}, static_cast<uint64_t>(group.rank())));
    model.count.fill_(group.rank() + 5.0);
    accelerator.prepare(model);
    const Tensor rows = accelerator.gather(model.fc.weight.detach());
    problems.expect(
        rows.slice(0, 0, 2).to_vector<float>() == rows.slice(0, 4, 6).to_vector<float>(),
        "parameters");
    problems.expect(model.count.to_vector<float>()[1] == 5, "buffers");
    problems.expect(&accelerator.unwrap_model(model) == &model, "unwrap_model");
    accelerator.wait_for_everyone();
  });
}

TEST_CASE("accelerator: gather, gather_for_metrics, reduce, triggers") {
  check_on_ranks(3, [](const Group& group, Problems& problems) {
    Accelerator accelerator({.group = group});
    const int rank = group.rank();
    problems.expect(
        accelerator.gather(full({}, rank)).to_vector<int64_t>() == std::vector<int64_t>{0, 1, 2},
        "gather of numbers");
    problems.expect(accelerator.gather(full({2, 3}, rank)).shape() == Shape{6, 3},
                    "gather of matrices");
    const int64_t rows = 2 - rank;  // 2, 1, 0
    const auto [a, b] = accelerator.gather_for_metrics(full({rows}, rank), full({rows, 2}, rank));
    problems.expect(a.to_vector<int64_t>() == std::vector<int64_t>{0, 0, 1}, "uneven");
    problems.expect(b.shape() == Shape{3, 2}, "uneven matrices");
    problems.expect(accelerator.gather_for_metrics(full({2}, rank)).numel() == 6, "one tensor");
    const Tensor mine = full({2}, rank * 1.0);
    problems.expect(accelerator.reduce(mine).to_vector<float>()[0] == 3, "sum");
    problems.expect(accelerator.reduce(mine, "mean").to_vector<float>()[1] == 1, "mean");
    problems.expect(mine.to_vector<float>()[0] == static_cast<float>(rank), "input unchanged");
    problems.expect(!accelerator.check_trigger(), "no trigger");
    if (rank == 1) accelerator.set_trigger();
    problems.expect(accelerator.check_trigger(), "trigger");
    problems.expect(!accelerator.check_trigger(), "triggers once");
    const std::string text = text_of<ArgumentError>([&] { accelerator.reduce(mine, "max"); });
    problems.expect(text == "reduce: 'max' is neither \"sum\" nor \"mean\"", text);
  });
}

TEST_CASE("accelerator: prepare is all or nothing, on all ranks") {
  const data::TensorDataset dataset = make_data(8);
  check_on_ranks(2, [&](const Group& group, Problems& problems) {
    Accelerator accelerator({.split_batches = true, .group = group});
    Net net = make_net(1), other = make_net(2);
    optim::SGD optimizer(net.parameters(), {.lr = 0.1});
    data::DataLoader odd(dataset, {.batch_size = 3}), even(dataset, {.batch_size = 4});
    // One rank's mistake stops both.
    const std::string text = text_of<ArgumentError>([&] {
      if (group.rank() == 0)
        accelerator.prepare(net, optimizer, odd);
      else
        accelerator.prepare(net, optimizer, even);
    });
    problems.expect(
        text == (group.rank() == 0 ? "prepare: a batch of 3 cannot be split evenly over 2 ranks"
                                   : "prepare: rank 0 failed; its error says why"),
        text);
    problems.expect(!grad_buffer(net.fc1.weight).defined() && even.size() == 2, "nothing is left");
    // The second model differs between the ranks; the first one is taken back.
    Net wider(nn::Place{}, 8 + group.rank());
    const std::string differ =
        text_of<ArgumentError>([&] { accelerator.prepare(net, wider, optimizer, even); });
    problems.expect(differ.find("parameters are not rank 0's") != std::string::npos, differ);
    problems.expect(!grad_buffer(net.fc1.weight).defined(), "nothing is left of the first");
    accelerator.prepare(net, optimizer, even);
    problems.expect(grad_buffer(net.fc1.weight).defined(), "prepared");
    problems.expect(even.size() == 2, "batches of 4 over both");
    const std::string twice = text_of<ArgumentError>([&] { accelerator.prepare(net); });
    problems.expect(twice == "prepare: this Net is prepared already; release it first", twice);
    accelerator.release(net, optimizer, even, other);
    problems.expect(!grad_buffer(net.fc1.weight).defined() && even.size() == 2, "released");
    accelerator.prepare(net);
  });
}

TEST_CASE("accelerator: an evaluation loop inside the training body leaves the batch as it was") {
  // 5 examples in batches of 4 over 2 ranks: 2 + 2, then 0 + 1.
  const data::TensorDataset dataset = make_data(5), few = make_data(8);
  check_on_ranks(2, [&](const Group& group, Problems& problems) {
    Accelerator accelerator(
        {.gradient_accumulation_steps = 10, .split_batches = true, .group = group});
    Net net = make_net(1);
    data::DataLoader loader(dataset, {.batch_size = 4}), others(few, {.batch_size = 4});
    accelerator.prepare(net, loader, others);
    std::vector<float> means;
    std::vector<bool> synced;
    for (auto& batch : loader) {
      problems.expect(batch.inputs.size(0) <= 2, "training");
      for (auto& [a, b] : others) problems.expect(a.size(0) == 2, "evaluation");
      for (auto& [a, b] : others)
        if (b.size(0) == 2) break;  // left early
      const auto guard = accelerator.accumulate();
      synced.push_back(accelerator.sync_gradients());
      means.push_back(accelerator.average(full({}, 1.0 + group.rank())).item<float>());
    }
    problems.expect(means == std::vector<float>{1.5f, 2.0f}, "weights");
    problems.expect(synced == std::vector<bool>{false, true}, "the last batch");
    const float after = accelerator.average(full({}, 1.0 + group.rank())).item<float>();
    problems.expect(after == 1.5f, "after the loop");
  });
}

TEST_CASE("accelerator: a model that one rank cannot hold fails on all, and they go on") {
  check_on_ranks(2, [](const Group& group, Problems& problems) {
    const Device device = group.rank() == 0 ? Device::sim() : Device::cuda(99);
    Accelerator accelerator({.device = device, .group = group});
    Net net = make_net(1);
    optim::SGD optimizer(net.parameters(), {.lr = 0.1});
    if (group.rank() == 0) {
      const std::string text = text_of<ArgumentError>([&] { accelerator.prepare(optimizer, net); });
      problems.expect(text == "prepare: rank 1 failed; its error says why", text);
    } else {
      const std::string text = text_of<DeviceError>([&] { accelerator.prepare(optimizer, net); });
      problems.expect(text.find("another error") == std::string::npos && text != "no error", text);
    }
    problems.expect(net.fc1.weight.device().is_cpu() && net.fc2.bias.device().is_cpu(), "devices");
    problems.expect(!grad_buffer(net.fc1.weight).defined() && !optimizer.gate(), "nothing is left");
    Accelerator other({.group = group});
    other.prepare(optimizer, net);
    problems.expect(grad_buffer(net.fc1.weight).defined(), "the group goes on");
  });
}

TEST_CASE("accelerator: release gives back what was there, and leaves the unprepared alone") {
  const data::TensorDataset dataset = make_data(12);
  Net net = make_net(1);
  optim::SGD optimizer(net.parameters(), {.lr = 0.1});
  data::DataLoader loader(dataset, {.batch_size = 2});
  bool open = false;
  int told = 0;
  optimizer.set_gate([&] { return open; });
  loader.shard(1, 3);
  loader.to(Device::sim());
  loader.set_observer([&](const data::BatchInfo&) { ++told; });
  const auto check_own = [&] {
    open = false;
    CHECK_FALSE(optimizer.is_open());
    open = true;
    CHECK(optimizer.is_open());
    CHECK(loader.rank() == 1);
    CHECK(loader.world() == 3);
    CHECK(loader.device() == Device::sim());
    told = 0;
    for (auto& [inputs, targets] : loader) CHECK(inputs.device() == Device::sim());
    CHECK(told == 3);  // two batches and the end
  };
  std::optional<Accelerator> first, second;
  first.emplace(AcceleratorOptions{.group = Group()});
  second.emplace(AcceleratorOptions{.group = Group()});
  first->release(optimizer, loader);
  check_own();
  first->prepare(optimizer, loader);
  CHECK(loader.size() == 6);
  CHECK(loader.device().is_cpu());
  second->release(optimizer, loader);  // not its own
  CHECK(loader.size() == 6);
  first->release(optimizer, loader);
  check_own();
  // What an Accelerator that has ended left behind is replaced, not kept as the state before.
  first->prepare(optimizer, loader);
  first.reset();
  second->prepare(optimizer, loader);
  second->release(optimizer, loader);
  check_own();
}

TEST_CASE("accelerator: model, optimizer, loader and Accelerator end in any order") {
  const data::TensorDataset dataset = make_data(8);
  for (int order = 0; order < 2; ++order)
    check_on_ranks(2, [&](const Group& group, Problems& problems) {
      auto accelerator = std::make_unique<Accelerator>(AcceleratorOptions{.group = group});
      auto net = std::make_unique<Net>(nn::Place{});
      auto optimizer = std::make_unique<optim::SGD>(net->parameters(), optim::SGDOptions{.lr = 1});
      auto loader =
          std::make_unique<data::DataLoader>(dataset, data::DataLoaderOptions{.batch_size = 2});
      accelerator->prepare(*net, *optimizer, *loader);
      if (order == 0) {
        accelerator.reset();
        int batches = 0;
        for (auto& [inputs, targets] : *loader) {
          optimizer->zero_grad();
          mse_loss((*net)(inputs), targets).backward();
          optimizer->step();
          ++batches;
        }
        problems.expect(batches == 2, "the loader goes on with its part");
      } else {
        net.reset();
        optimizer.reset();
        loader.reset();
        Net fresh{nn::Place{}};
        accelerator->prepare(fresh);
        accelerator->backward(sum(fresh(full({1, 3}, 1.0))));
        problems.expect(fresh.fc1.weight.grad().defined(), "the Accelerator goes on");
      }
    });
}

TEST_CASE("accelerator: frozen parameters stay out, new models of the same place are new") {
  Accelerator accelerator({.group = Group()});
  std::optional<Net> net;
  net.emplace(nn::Place{});
  net->fc1.requires_grad_(false);
  accelerator.prepare(*net);
  CHECK_FALSE(grad_buffer(net->fc2.weight).is_same(Tensor()));
  net.emplace(nn::Place{});
  accelerator.prepare(*net);
  CHECK(grad_buffer(net->fc1.weight).defined());
}

TEST_CASE("accelerator: a device for models and batches") {
  Accelerator accelerator({.device = Device::sim(), .group = Group()});
  const data::TensorDataset dataset = make_data(4);
  data::DataLoader loader(dataset, {.batch_size = 4});
  Net net{nn::Place{}};
  accelerator.prepare(net, loader);
  for (auto& [inputs, targets] : loader) {
    CHECK(inputs.device() == Device::sim());
    accelerator.backward(mse_loss(net(inputs), targets));
  }
  CHECK(net.fc1.weight.grad().device() == Device::sim());
}

TEST_CASE("accelerator: what the code leaves open comes from the environment") {
  const auto steps_to_sync = [](AcceleratorOptions options) {
    options.group = Group();
    Accelerator accelerator(std::move(options));
    for (int i = 1; i < 10; ++i) {
      const auto guard = accelerator.accumulate();
      if (accelerator.sync_gradients()) return i;
    }
    return -1;
  };
  const std::optional<std::string> none;
  {
    const Environment environment({{"WEFT_GRADIENT_ACCUMULATION_STEPS", none},
                                   {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS", none}});
    CHECK(steps_to_sync({}) == 1);
  }
  {
    const Environment environment({{"WEFT_GRADIENT_ACCUMULATION_STEPS", none},
                                   {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4"}});
    CHECK(steps_to_sync({}) == 4);
    CHECK(steps_to_sync({.gradient_accumulation_steps = 2}) == 2);  // the code goes first
  }
  {
    const Environment environment({{"WEFT_GRADIENT_ACCUMULATION_STEPS", "3"},
                                   {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4"}});
    CHECK(steps_to_sync({}) == 3);
  }
  const Environment environment({{"WEFT_MIXED_PRECISION", none},
                                 {"WEFT_GRADIENT_ACCUMULATION_STEPS", "many"},
                                 {"ACCELERATE_MIXED_PRECISION", "fp16"}});
  check_error<ArgumentError>("accelerator_precision_variable",
                             [] { Accelerator({.group = Group()}); });
  check_error<ArgumentError>("accelerator_accumulation_variable",
                             [] { Accelerator({.mixed_precision = "no", .group = Group()}); });
}

TEST_CASE("accelerator: options that cannot work are refused") {
  check_error<ArgumentError>("accelerator_precision",
                             [] { Accelerator({.mixed_precision = "bf16"}); });
  check_error<ArgumentError>("accelerator_accumulation",
                             [] { Accelerator({.gradient_accumulation_steps = 0}); });
  Accelerator accelerator({.group = Group()});
  Net meta(nn::Place{Device::meta()});
  check_error<ArgumentError>("accelerator_meta", [&] { accelerator.prepare(meta); });
  Net net{nn::Place{}};
  check_error<ArgumentError>("accelerator_same_twice", [&] { accelerator.prepare(net, net); });
  accelerator.prepare(net);
  check_error<ArgumentError>("accelerator_twice", [&] { accelerator.prepare(net); });
  optim::SGD optimizer(net.parameters(), {.lr = 0.1});
  const data::TensorDataset dataset = make_data(4);
  data::DataLoader loader(dataset);
  check_error<ArgumentError>("accelerator_optimizer_given_twice",
                             [&] { accelerator.prepare(optimizer, optimizer); });
  check_error<ArgumentError>("accelerator_loader_given_twice",
                             [&] { accelerator.prepare(loader, optimizer, loader); });
  accelerator.prepare(optimizer, loader);
  check_error<ArgumentError>("accelerator_optimizer_twice",
                             [&] { accelerator.prepare(optimizer); });
  check_error<ArgumentError>("accelerator_loader_twice", [&] { accelerator.prepare(loader); });
  check_error<ArgumentError>("accelerator_reduce",
                             [&] { accelerator.reduce(full({1}, 1.0), "max"); });
}
