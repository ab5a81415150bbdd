// Gradients averaged over ranks against one rank that sees everything.
#include <doctest/doctest.h>

#include <cmath>
#include <string>

#include <weft/autograd/autograd.hpp>
#include <weft/autograd/leaf.hpp>
#include <weft/core/base/error.hpp>
#include <weft/core/ops.hpp>
#include <weft/dist/parallel/reducer.hpp>
#include <weft/tests/dist/ranks.hpp>
#include <weft/tests/support/errors.hpp>

using namespace weft;
using namespace weft::dist;
using namespace weft::test;

namespace {

/// A value that depends on all its arguments and needs no generator.
float wave(int64_t i, double phase) {
  return static_cast<float>(std::sin(0.7 * static_cast<double>(i) + phase));
}

Tensor waves(const Shape& shape, double phase, Device device = Device::cpu()) {
  std::vector<float> values(static_cast<size_t>(shape.numel()));
  for (size_t i = 0; i < values.size(); ++i) values[i] = wave(static_cast<int64_t>(i), phase);
  return from_host(values.data(), shape, DType::f32, device);
}

/// Two layers, as tensors.
struct Net {
  Tensor w1, b1, w2, unused;
  explicit Net(Device device = Device::cpu())
      : w1(waves({16, 8}, 0.1, device)),
        b1(waves({16}, 0.2, device)),
        w2(waves({3, 16}, 0.3, device)),
        unused(waves({5}, 0.4, device)) {
    for (Tensor* p : {&w1, &b1, &w2, &unused}) p->requires_grad_();
  }
  std::vector<Tensor> parameters() const { return {w1, b1, w2, unused}; }
  Tensor loss(const Tensor& x, const Tensor& y) const {
    return mse_loss(linear(tanh(linear(x, w1, b1)), w2), y);
  }
  void zero_grad() const {
    for (const Tensor& p : parameters()) p.set_grad(Tensor());
  }
};

constexpr int64_t kBatch = 12;
Tensor inputs(int step) { return waves({kBatch, 8}, step); }
Tensor targets(int step) { return waves({kBatch, 3}, step + 0.5); }

void descend(const Net& net) {
  const NoGrad guard;
  for (Tensor p : net.parameters())
    if (const Tensor g = p.grad(); g.defined()) p.detach().add_(g, -0.1);
}

double largest_difference(const Tensor& a, const Tensor& b) {
  const auto x = a.detach().to_vector<double>(), y = b.detach().to_vector<double>();
  double largest = 0;
  for (size_t i = 0; i < x.size(); ++i) largest = std::max(largest, std::abs(x[i] - y[i]));
  return largest;
}

bool close(const Net& a, const Net& b) {
  for (size_t i = 0; i < 4; ++i)
    if (largest_difference(a.parameters()[i], b.parameters()[i]) > 2e-6) return false;
  return true;
}

Net trained_alone(int steps) {
  Net net;
  for (int step = 0; step < steps; ++step) {
    net.zero_grad();
    net.loss(inputs(step), targets(step)).backward();
    descend(net);
  }
  return net;
}

}  // namespace

TEST_CASE("reducer: 1, 2, 3 and 4 ranks train as one rank does, whatever the buckets") {
  const Net expected = trained_alone(10);
  for (const int size : {1, 2, 3, 4})
    for (const size_t bucket : {size_t{1}, size_t{300}, size_t{25} << 20})
      check_on_ranks(size, [&](const Group& group, Problems& problems) {
        const Net net;
        GradReducer reducer(net.parameters(), group,
                            {.bucket_bytes = bucket, .first_bucket_bytes = bucket});
        problems.expect(reducer.bucket_count() == (bucket == 1     ? 4u
                                                   : bucket == 300 ? 2u
                                                                   : 1u),
                        std::to_string(reducer.bucket_count()) + " buckets");
        const int64_t part = kBatch / size, first = group.rank() * part;
        for (int step = 0; step < 10; ++step) {
          net.zero_grad();
          net.loss(inputs(step).narrow(0, first, part), targets(step).narrow(0, first, part))
              .backward();
          descend(net);
        }
        problems.expect(close(net, expected), "weights differ");
        problems.expect(!net.unused.grad().defined(), "a gradient that no rank has");
      });
}

TEST_CASE("reducer: gradients are views into shared buckets and stay so") {
  check_on_ranks(2, [](const Group& group, Problems& problems) {
    const Net net;
    GradReducer reducer(net.parameters(), group);
    const auto* place = grad_buffer(net.w1).impl()->data;
    for (int step = 0; step < 3; ++step) {
      net.zero_grad();
      net.loss(inputs(step), targets(step)).backward();
      problems.expect(net.w1.grad().impl()->data == place, "the place changed");
    }
    problems.expect(net.w1.grad().storage().get() == net.b1.grad().storage().get(), "one bucket");
  });
}

TEST_CASE("reducer: on the sim device") {
  const Net expected = trained_alone(3);
  check_on_ranks(2, [&](const Group& group, Problems& problems) {
    const Net net(Device::sim());
    GradReducer reducer(net.parameters(), group);
    for (int step = 0; step < 3; ++step) {
      net.zero_grad();
      const auto half = [&](const Tensor& all) {
        return all.narrow(0, group.rank() * kBatch / 2, kBatch / 2).to(Device::sim());
      };
      net.loss(half(inputs(step)), half(targets(step))).backward();
      descend(net);
    }
    problems.expect(close(net, expected), "weights differ");
  });
}

TEST_CASE("reducer: parts of different sizes are weighted by their samples, none included") {
  const Net expected = trained_alone(4);
  check_on_ranks(3, [&](const Group& group, Problems& problems) {
    const Net net;
    GradReducer reducer(net.parameters(), group);
    const int64_t starts[] = {0, 5, 12, 12};
    const int64_t first = starts[group.rank()], part = starts[group.rank() + 1] - first;
    reducer.set_weight(static_cast<double>(part));
    for (int step = 0; step < 4; ++step) {
      net.zero_grad();
      if (part == 0)
        reducer.reduce_without_backward();
      else
        reducer.backward(
            net.loss(inputs(step).narrow(0, first, part), targets(step).narrow(0, first, part)));
      descend(net);
    }
    problems.expect(close(net, expected), "weights differ");
    const std::string text = text_of<ArgumentError>([&] { reducer.set_weight(-1.0); });
    problems.expect(text == "GradReducer: a weight of -1; give the number of samples", text);
  });
}

TEST_CASE("reducer: parameters that only some ranks reach, or none") {
  check_on_ranks(3, [](const Group& group, Problems& problems) {
    const Tensor a = full({4}, 1.0, {.requires_grad = true});
    const Tensor b = full({2}, 1.0, {.requires_grad = true});
    const Tensor c = full({3}, 1.0, {.requires_grad = true});
    GradReducer reducer({a, b, c}, group);
    for (int step = 0; step < 3; ++step) {
      for (const Tensor& p : {a, b, c}) p.set_grad(Tensor());
      // a on all ranks, b on rank 1 alone, c nowhere
      Tensor loss = sum(a);
      if (group.rank() == 1) loss = loss + sum(b * 6.0);
      loss.backward();
      problems.expect(a.grad().to_vector<float>() == std::vector<float>(4, 1), "a");
      problems.expect(b.grad().defined() && b.grad().to_vector<float>() == std::vector<float>(2, 2),
                      "b");
      problems.expect(!c.grad().defined(), "c");
    }
    // A rank whose loss reaches none of them takes part through backward(loss).
    for (const Tensor& p : {a, b, c}) p.set_grad(Tensor());
    const Tensor other = full({1}, 1.0, {.requires_grad = true});
    reducer.backward(group.rank() == 0 ? sum(other) : sum(a));
    problems.expect(std::abs(a.grad().to_vector<float>()[0] - 2.0f / 3) < 1e-6f, "a on two ranks");
  });
}

TEST_CASE("reducer: gradients add up without sync and are averaged with it") {
  const auto halves = [](const Net& net, int rank, int micro) {
    const int64_t first = rank * 6 + micro * 3;
    return net.loss(inputs(0).narrow(0, first, 3), targets(0).narrow(0, first, 3)) / 2.0;
  };
  const Net expected = trained_alone(1);
  check_on_ranks(2, [&](const Group& group, Problems& problems) {
    const Net net;
    GradReducer reducer(net.parameters(), group);
    reducer.set_sync(false);
    problems.expect(!reducer.sync(), "sync is off");
    halves(net, group.rank(), 0).backward();
    const auto own = net.w1.grad().to_vector<float>();
    const Tensor both = group.all_gather(net.w1.grad());
    problems.expect(both.select(0, group.rank()).to_vector<float>() == own &&
                        both.select(0, 1 - group.rank()).to_vector<float>() != own,
                    "each rank has its own gradient");
    reducer.set_sync(true);
    halves(net, group.rank(), 1).backward();
    descend(net);
    problems.expect(close(net, expected), "weights differ");
  });
}

TEST_CASE("reducer: a backward that throws on all ranks leaves it usable") {
  const Net expected = trained_alone(1);
  check_on_ranks(2, [&](const Group& group, Problems& problems) {
    const Net net;
    GradReducer reducer(net.parameters(), group, {.bucket_bytes = 1, .first_bucket_bytes = 1});
    const auto part = [&](const Tensor& all) { return all.narrow(0, group.rank() * 6, 6); };
    // Fails after w2's bucket has been reduced.
    Tensor hidden = tanh(linear(part(inputs(0)), net.w1, net.b1));
    hidden.register_hook([](const Tensor&) -> Tensor { throw ArgumentError("in a hook"); });
    const Tensor loss = mse_loss(linear(hidden, net.w2), part(targets(0)));
    problems.expect(text_of<ArgumentError>([&] { loss.backward(); }) == "in a hook", "the error");
    net.zero_grad();
    net.loss(part(inputs(0)), part(targets(0))).backward();
    descend(net);
    problems.expect(close(net, expected), "weights differ");
  });
}

TEST_CASE("reducer: a pass with create_graph keeps its graph and gets averaged values") {
  check_on_ranks(2, [](const Group& group, Problems& problems) {
    const Tensor x = full({2}, 1.0 + group.rank(), {.requires_grad = true});
    GradReducer reducer({x}, group);
    sum(x * x * x).backward(Tensor(), false, true);
    const Tensor first = x.grad();
    problems.expect(first.requires_grad(), "the gradient has a graph");
    problems.expect(std::abs(first.detach().to_vector<float>()[0] - 7.5f) < 1e-6f,
                    "average of 3 and 12");
  });
}

TEST_CASE("reducer: it may end before and after its parameters") {
  check_on_ranks(2, [](const Group& group, Problems& problems) {
    Net net;
    {
      GradReducer reducer(net.parameters(), group);
      net.loss(inputs(group.rank()), targets(group.rank())).backward();
    }
    problems.expect(!grad_buffer(net.w1).defined(), "the buffer is lifted");
    const Tensor kept = net.w1.grad();
    problems.expect(kept.defined(), "the gradient stays");
    net.zero_grad();
    net.loss(inputs(group.rank()), targets(group.rank())).backward();  // no longer averaged
    const Tensor both = group.all_gather(net.w1.grad());
    problems.expect(largest_difference(both.select(0, 0), both.select(0, 1)) > 1e-4, "apart");
    GradReducer outlives(net.parameters(), group);
    net = Net();
  });
}

TEST_CASE("reducer: what cannot work is refused") {
  const Group group;
  const Tensor leaf = full({2}, 1.0, {.requires_grad = true});
  check_error<ArgumentError>("reducer_no_leaf", [&] { GradReducer({leaf, leaf * 2.0}, group); });
  check_error<ArgumentError>("reducer_twice", [&] { GradReducer({leaf, leaf}, group); });
  check_error<ArgumentError>("reducer_meta", [&] {
    GradReducer({empty({2}, {.device = Device::meta(), .requires_grad = true})}, group);
  });
  check_error<ArgumentError>("reducer_weight",
                             [&] { GradReducer({leaf}, group).set_weight(-2.0); });
  std::string texts[2];
  run_fake_group(2, [&](const Group& pair) {
    const Tensor one = full({2 + pair.rank()}, 1.0, {.requires_grad = true});
    texts[pair.rank()] = text_of<ArgumentError>([&] { GradReducer({one}, pair); });
  });
  CHECK(texts[0] == texts[1]);
  check_error<ArgumentError>("reducer_parameters", [&] { throw ArgumentError(texts[0]); });
}

TEST_CASE("broadcast_tensors: everybody gets the root's") {
  check_on_ranks(3, [](const Group& group, Problems& problems) {
    const Tensor a = full({5}, group.rank(), {.dtype = DType::i64});
    const Tensor b = full({2, 2}, group.rank() * 2.0, {.requires_grad = true});
    broadcast_tensors({a, b}, group, 1);
    problems.expect(a.to_vector<int64_t>()[4] == 1 && b.detach().to_vector<float>()[3] == 2,
                    "rank 1's values");
  });
}
