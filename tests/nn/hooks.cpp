// Hooks of units: order, phases, tensors in any argument, removal.
#include <doctest/doctest.h>

#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <weft/autograd/autograd.hpp>
#include <weft/core/ops.hpp>
#include <weft/nn/nn.hpp>

namespace shapes {

// A user's argument with tensors in it.
struct Masked {
  weft::Tensor values;
  weft::Tensor mask;
};
template <class F>
void visit_tensors(Masked& masked, F&& visit) {
  visit(masked.values);
  visit(masked.mask);
}

}  // namespace shapes

using namespace weft;

namespace {

using Events = std::vector<std::string>;

const char* phase_name(Phase phase) {
  return phase == Phase::forward ? "forward" : phase == Phase::recompute ? "recompute" : "backward";
}

nn::UnitHooks recorder(Events& events, const std::string& tag = "") {
  return {.pre_forward = [&events, tag](
                             nn::Module&, Phase p,
                             nn::CallTensors) { events.push_back(tag + "pre " + phase_name(p)); },
          .post_forward = [&events, tag](
                              nn::Module&, Phase p,
                              nn::CallTensors) { events.push_back(tag + "post " + phase_name(p)); },
          .pre_backward =
              [&events, tag](nn::Module&) {
                events.push_back(tag + "pre " + phase_name(current_phase()));
              },
          .post_backward =
              [&events, tag](nn::Module&) {
                events.push_back(tag + "post " + phase_name(current_phase()));
              },
          .failed = [&events, tag](nn::Module&) { events.push_back(tag + "failed"); }};
}

struct Two : nn::Layer<Two> {
  nn::Linear first, second;
  explicit Two(nn::At at) : Layer(at), first(sub("first"), 2, 3), second(sub("second"), 3, 1) {}
  Tensor forward(const Tensor& x) { return second(tanh(first(x))); }
};

std::vector<float> gradient_of(Two& net, const Tensor& x) {
  net.zero_grad();
  sum(net(x)).backward();
  return net.first.weight.grad().to_vector<float>();
}

}  // namespace

TEST_CASE("hooks run around forward and backward, in their phases, and change no gradient") {
  Two net(nn::Place{});
  const Tensor x = rand({4, 2});
  const std::vector<float> plain = gradient_of(net, x);
  Events events;
  nn::HookHandle first = net.first.add_hooks(recorder(events, "1 "));
  nn::HookHandle second = net.second.add_hooks(recorder(events, "2 "));
  CHECK(gradient_of(net, x) == plain);
  // The input does not require grad: the end of unit 1 is the end of the pass.
  CHECK(events == Events{"1 pre forward", "1 post forward", "2 pre forward", "2 post forward",
                         "2 pre backward", "2 post backward", "1 pre backward", "1 post backward"});
  events.clear();
  const Tensor tracked = x.clone().requires_grad_();
  CHECK(gradient_of(net, tracked) == plain);
  CHECK(events.size() == 8);
  CHECK(events.back() == "1 post backward");
  first.remove();
  first.remove();
  second.remove();
  CHECK(net.first.hooks() == nullptr);
  events.clear();
  CHECK(gradient_of(net, x) == plain);
  CHECK(events.empty());
}

TEST_CASE("under checkpoint, forward hooks run again as recompute, backward hooks once") {
  Two net(nn::Place{});
  const Tensor x = rand({4, 2});
  const std::vector<float> plain = gradient_of(net, x);
  Events events;
  nn::HookHandle handle = net.first.add_hooks(recorder(events));
  net.zero_grad();
  sum(checkpoint([&](const Tensor& in) { return net(in); }, x)).backward();
  CHECK(net.first.weight.grad().to_vector<float>() == plain);
  REQUIRE(events.size() == 6);
  CHECK(events[0] == "pre forward");
  CHECK(events[1] == "post forward");
  int recomputed = 0, backward = 0;
  for (const std::string& event : events) {
    recomputed += event == "pre recompute" || event == "post recompute";
    backward += event == "pre backward" || event == "post backward";
  }
  CHECK(recomputed == 2);
  CHECK(backward == 2);
  CHECK(events.back() == "post backward");
}

TEST_CASE("without gradients there is no backward to be told of") {
  Two net(nn::Place{});
  Events events;
  nn::HookHandle handle = net.add_hooks(recorder(events));
  const NoGrad guard;
  net(rand({1, 2}));
  CHECK(events == Events{"pre forward", "post forward"});
}

TEST_CASE("several hooks nest: the last one in is the innermost") {
  Two net(nn::Place{});
  Events events;
  nn::HookHandle outer = net.add_hooks(recorder(events, "a "));
  nn::HookHandle inner = net.add_hooks(recorder(events, "b "));
  sum(net(rand({1, 2}))).backward();
  CHECK(events == Events{"a pre forward", "b pre forward", "b post forward", "a post forward",
                         "a pre backward", "b pre backward", "b post backward", "a post backward"});
}

TEST_CASE("a hook may replace inputs and results; the caller's tensors stay") {
  Two net(nn::Place{});
  const Tensor x = rand({4, 2});
  nn::HookHandle handle = net.add_hooks(
      {.pre_forward = [](nn::Module&, Phase,
                         nn::CallTensors tensors) { *tensors[0] = *tensors[0] * 2.0; },
       .post_forward = [](nn::Module&, Phase,
                          nn::CallTensors tensors) { *tensors[0] = *tensors[0] + 1.0; }});
  const std::vector<float> before = x.to_vector<float>();
  const Tensor hooked = net(x);
  handle.remove();
  CHECK(hooked.to_vector<float>() == (net(x * 2.0) + 1.0).to_vector<float>());
  CHECK(x.to_vector<float>() == before);
}

TEST_CASE("a forward that throws is told, and the exception goes on") {
  struct Fails : nn::Layer<Fails> {
    explicit Fails(nn::At at) : Layer(at) {}
    Tensor forward(const Tensor&) { throw std::runtime_error("no"); }
  };
  Fails net(nn::Place{});
  Events events;
  nn::HookHandle handle = net.add_hooks(recorder(events));
  CHECK_THROWS_WITH(net(ones({1})), "no");
  CHECK(events == Events{"pre forward", "failed"});
}

TEST_CASE("handles and graphs outlive the module") {
  Events events;
  nn::HookHandle handle;
  Tensor loss;
  Tensor weight;
  {
    Two net(nn::Place{});
    handle = net.add_hooks(recorder(events));
    weight = net.first.weight;
    loss = sum(net(rand({1, 2})));
  }
  loss.backward();
  CHECK(weight.grad().defined());
  CHECK(events == Events{"pre forward", "post forward"});
  handle.remove();
}

TEST_CASE("hooks that were removed between forward and backward are passed over") {
  Two net(nn::Place{});
  Events events;
  nn::HookHandle gone = net.add_hooks(recorder(events, "a "));
  nn::HookHandle stays = net.add_hooks(recorder(events, "b "));
  const Tensor loss = sum(net(rand({1, 2})));
  gone.remove();
  events.clear();
  loss.backward();
  CHECK(events == Events{"b pre backward", "b post backward"});
}

TEST_CASE("visit_tensors reaches tensors in any argument") {
  int found = 0;
  const auto count = [&found](Tensor&) { ++found; };
  Tensor one = ones({1});
  nn::visit_tensors(one, count);
  CHECK(found == 1);
  std::vector<Tensor> list = {one, one};
  nn::visit_tensors(list, count);
  CHECK(found == 3);
  std::optional<Tensor> none, some = one;
  nn::visit_tensors(none, count);
  nn::visit_tensors(some, count);
  CHECK(found == 4);
  auto mixed = std::tuple(one, 3, std::pair(std::string("x"), list));
  nn::visit_tensors(mixed, count);
  CHECK(found == 7);
  shapes::Masked masked{one, one};
  nn::visit_tensors(masked, count);
  CHECK(found == 9);
  std::vector<shapes::Masked> several = {masked, masked};
  nn::visit_tensors(several, count);
  CHECK(found == 13);
  std::string text = "none";
  nn::visit_tensors(text, count);
  CHECK(found == 13);
}

TEST_CASE("calls with structs, references and several results go through hooks") {
  struct Cache {
    int uses = 0;
  };
  struct Many : nn::Layer<Many> {
    explicit Many(nn::At at) : Layer(at) {}
    std::pair<Tensor, Tensor> forward(const shapes::Masked& in, Cache& cache, double scale) {
      ++cache.uses;
      return {in.values * scale, in.mask};
    }
  };
  Many net(nn::Place{});
  size_t inputs = 0, outputs = 0;
  nn::HookHandle handle = net.add_hooks(
      {.pre_forward = [&](nn::Module&, Phase, nn::CallTensors t) { inputs = t.size(); },
       .post_forward = [&](nn::Module&, Phase, nn::CallTensors t) { outputs = t.size(); }});
  Cache cache;
  const shapes::Masked in{ones({2}), zeros({2})};
  const auto [scaled, mask] = net(in, cache, 3.0);
  CHECK(scaled.to_vector<float>() == std::vector<float>{3, 3});
  CHECK(cache.uses == 1);
  CHECK(inputs == 2);
  CHECK(outputs == 2);
}
