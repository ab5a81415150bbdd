// The module tree: names, registration, everyday verbs, state dicts.
#include <doctest/doctest.h>

#include <memory>
#include <optional>
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

struct Net : nn::Layer<Net> {
  nn::Linear fc1, fc2;
  explicit Net(nn::At at, int64_t hidden = 8)
      : Layer(at), fc1(sub("fc1"), 2, hidden), fc2(sub("fc2"), hidden, 1, {.bias = false}) {}
  Tensor forward(const Tensor& x) { return fc2(tanh(fc1(x))); }
};

struct Counter : nn::Layer<Counter> {
  nn::Buffer count, scratch;
  nn::Param scale;
  explicit Counter(nn::At at)
      : Layer(at),
        count(sub("count"), [](nn::Place p) { return full({2}, 3.0, {.device = p.device}); }),
        scratch(sub("scratch"), [](nn::Place p) { return zeros({1}, {.device = p.device}); },
                {.persistent = false, .keep_dtype = true}),
        scale(sub("scale"), {2}, nn::Init::constant(4)) {}
};

struct Tied : nn::Layer<Tied> {
  nn::Embedding tokens;
  nn::Linear head;
  explicit Tied(nn::At at)
      : Layer(at), tokens(sub("tokens"), 5, 3), head(sub("head"), 3, 5, {.bias = false}) {
    head.weight = tokens.weight;
  }
};

std::vector<std::string> keys_of(const StateDict& dict) {
  std::vector<std::string> keys;
  for (const auto& [key, tensor] : dict) keys.push_back(key);
  return keys;
}

using Keys = std::vector<std::string>;

}  // namespace

TEST_CASE("names joined by dots are the keys, in the order of construction") {
  Net net(nn::Place{});
  CHECK(keys_of(net.state_dict()) == Keys{"fc1.weight", "fc1.bias", "fc2.weight"});
  CHECK(net.path().empty());
  CHECK(net.fc1.name() == "fc1");
  CHECK(net.fc1.weight.path() == "fc1.weight");
  CHECK(net.fc1.parent() == &net);
  CHECK(net.type_name() == "Net");
  CHECK(net.fc2.type_name() == "Linear");
  CHECK_FALSE(net.fc2.bias.defined());
  int64_t total = 0;
  for (auto& [name, parameter] : net.named_parameters()) {
    CHECK(parameter.requires_grad());
    total += parameter.numel();
  }
  CHECK(total == 2 * 8 + 8 + 8);
  CHECK(net.parameters().size() == 3);
  const auto modules = net.named_modules();
  REQUIRE(modules.size() == 3);
  CHECK(modules[0].first.empty());
  CHECK(modules[0].second == &net);
  CHECK(modules[2].first == "fc2");
  CHECK(net.children().size() == 2);
}

TEST_CASE("a place gives device and dtype; on meta nothing is allocated") {
  Net big(nn::Place{Device::meta(), DType::bf16}, 65536);
  for (auto& [name, parameter] : big.named_parameters()) {
    CHECK(parameter.device().is_meta());
    CHECK(parameter.dtype() == DType::bf16);
    CHECK(parameter.requires_grad());
  }
  const Tensor out = big(empty({3, 2}, {.dtype = DType::bf16, .device = Device::meta()}));
  CHECK(out.shape() == Shape{3, 1});
}

TEST_CASE("a seeded place gives the same first values whatever else draws numbers") {
  manual_seed(1);
  Net first(nn::At({}, 7));
  manual_seed(2);
  const Tensor other = rand({5});
  Net second(nn::At({}, 7)), third(nn::At({}, 8));
  CHECK(first.fc1.weight.to_vector<float>() == second.fc1.weight.to_vector<float>());
  CHECK(first.fc2.weight.to_vector<float>() == second.fc2.weight.to_vector<float>());
  CHECK(first.fc1.weight.to_vector<float>() != third.fc1.weight.to_vector<float>());
  // The default generator goes on as if nothing had been drawn.
  manual_seed(2);
  CHECK(rand({5}).to_vector<float>() == other.to_vector<float>());
}

TEST_CASE("a name that is taken is an error that names it") {
  struct Twice : nn::Layer<Twice> {
    nn::Linear a, b;
    explicit Twice(nn::At at) : Layer(at), a(sub("fc"), 1, 1), b(sub("fc"), 1, 1) {}
  };
  check_error<ArgumentError>("module_child_twice", [] { Twice twice(nn::Place{}); });
  struct Weights : nn::Layer<Weights> {
    nn::Param a, b;
    explicit Weights(nn::At at)
        : Layer(at),
          a(sub("weight"), {1}, nn::Init::zeros()),
          b(sub("weight"), {1}, nn::Init::zeros()) {}
  };
  struct Outer : nn::Layer<Outer> {
    Weights inner;
    explicit Outer(nn::At at) : Layer(at), inner(sub("inner")) {}
  };
  check_error<ArgumentError>("module_parameter_twice", [] { Outer outer(nn::Place{}); });
  struct Dotted : nn::Layer<Dotted> {
    nn::Linear a;
    explicit Dotted(nn::At at) : Layer(at), a(sub("a.b"), 1, 1) {}
  };
  check_error<ArgumentError>("module_name_with_dot", [] { Dotted dotted(nn::Place{}); });
  check_error<ArgumentError>("module_parameter_alone",
                             [] { nn::Param alone(nn::At(nn::Place{}), {1}, nn::Init::zeros()); });
}

TEST_CASE("a name is free again when its module is gone") {
  struct Holder : nn::Layer<Holder> {
    std::optional<nn::Linear> head;
    explicit Holder(nn::At at) : Layer(at) { renew(2); }
    void renew(int64_t out) {
      head.reset();
      head.emplace(sub("head"), 3, out);
    }
  };
  Holder holder(nn::Place{});
  holder.renew(4);
  CHECK(keys_of(holder.state_dict()) == Keys{"head.weight", "head.bias"});
  CHECK(holder.head->weight.shape() == Shape{4, 3});
  holder.head.reset();
  CHECK(holder.state_dict().empty());
  CHECK(holder.children().empty());
}

TEST_CASE("train and eval reach every module") {
  nn::Sequential<nn::Linear, nn::Dropout> net(nn::Place{}, nn::args(2, 2), nn::args(0.5));
  CHECK(net.is_training());
  net.eval();
  CHECK_FALSE(net.get<1>().is_training());
  net.train();
  CHECK(net.get<1>().is_training());
}

TEST_CASE("apply visits children before their parent") {
  Net net(nn::Place{});
  Keys order;
  net.apply([&](nn::Module& m) { order.push_back(m.type_name()); });
  CHECK(order == Keys{"Linear", "Linear", "Net"});
}

TEST_CASE("to moves parameters in place: every handle sees it") {
  Net net(nn::Place{});
  const std::vector<Tensor> handles = net.parameters();
  const std::vector<float> before = handles[0].to_vector<float>();
  net.to(Device::sim(0));
  CHECK(handles[0].device() == Device::sim(0));
  CHECK(handles[0].is_same(net.fc1.weight));
  CHECK(handles[0].to_vector<float>() == before);
  CHECK(handles[0].is_leaf());
  CHECK(handles[0].requires_grad());
  CHECK(net.fc1.place().device == Device::sim(0));
  net.to(Device::cpu(), DType::f64);
  CHECK(handles[0].dtype() == DType::f64);
  CHECK(handles[0].device().is_cpu());
  net.to(DType::f32);
  CHECK(handles[0].to_vector<float>() == before);
  check_error<ArgumentError>("module_to_integers", [&] { net.to(DType::i64); });
}

TEST_CASE("to takes gradients along") {
  Net net(nn::Place{});
  sum(net(ones({4, 2}))).backward();
  const std::vector<float> before = net.fc1.weight.grad().to_vector<float>();
  net.to(DType::f64);
  CHECK(net.fc1.weight.grad().dtype() == DType::f64);
  CHECK(net.fc1.weight.grad().to_vector<float>() == before);
  net.zero_grad(false);
  CHECK(net.fc1.weight.grad().to_vector<float>() == std::vector<float>(before.size(), 0.f));
  net.zero_grad();
  CHECK_FALSE(net.fc1.weight.grad().defined());
}

TEST_CASE("a graph whose saved weights were moved is an error, not a wrong gradient") {
  Net net(nn::Place{});
  const Tensor loss = sum(net(ones({4, 2})));
  net.to(DType::f64);
  CHECK_THROWS_AS(loss.backward(), ArgumentError);
}

TEST_CASE("buffers are listed where they are persistent, and keep their dtype where told") {
  Counter counter(nn::Place{});
  CHECK(keys_of(counter.state_dict()) == Keys{"scale", "count"});
  CHECK(keys_of(counter.named_buffers()) == Keys{"count", "scratch"});
  CHECK(counter.parameters().size() == 1);
  counter.to(DType::bf16);
  CHECK(counter.count.dtype() == DType::bf16);
  CHECK(counter.scratch.dtype() == DType::f32);
  counter.count = counter.count + 1.0;
  CHECK(counter.named_buffers()[0].second.to_vector<float>() == std::vector<float>{4, 4});
  CHECK(counter.count.path() == "count");
}

TEST_CASE("a model on meta gets memory: by its rules, by its recipes, or by loading") {
  Counter counter(nn::Place{Device::meta()});
  CHECK(counter.count.device().is_meta());
  check_error<DeviceError>("module_to_from_meta", [&] { counter.to(Device::cpu()); });
  const Tensor handle = counter.scale;
  counter.materialise(Device::cpu());
  CHECK(handle.to_vector<float>() == std::vector<float>{4, 4});
  CHECK(handle.requires_grad());
  CHECK(counter.count.to_vector<float>() == std::vector<float>{3, 3});

  Net net(nn::Place{}), empty_net(nn::Place{Device::meta()});
  nn::load_state_dict(empty_net, net.state_dict());
  CHECK(empty_net.fc1.weight.to_vector<float>() == net.fc1.weight.to_vector<float>());
  CHECK_FALSE(empty_net.fc1.weight.storage().get() == net.fc1.weight.storage().get());
  CHECK(empty_net.fc1.weight.requires_grad());
}

TEST_CASE("tied parameters are one tensor under two keys") {
  Tied model(nn::Place{});
  CHECK(model.head.weight.is_same(model.tokens.weight));
  CHECK(keys_of(model.state_dict()) == Keys{"tokens.weight", "head.weight"});
  CHECK(keys_of(model.named_parameters()) == Keys{"tokens.weight"});
  CHECK(keys_of(model.named_parameters(false)) == Keys{"tokens.weight", "head.weight"});
  model.to(DType::f64);
  CHECK(model.head.weight.is_same(model.tokens.weight));
  CHECK(model.summary().find("(tied)") != std::string::npos);
  check_error<ArgumentError>("param_tie_shapes", [] {
    nn::Linear a(nn::Place{}, 2, 3), b(nn::Place{}, 3, 3);
    a.weight = b.weight;
  });
}

TEST_CASE("requires_grad_ freezes and thaws") {
  Net net(nn::Place{});
  net.requires_grad_(false);
  CHECK_FALSE(net(ones({1, 2})).requires_grad());
  net.requires_grad_();
  CHECK(net(ones({1, 2})).requires_grad());
}

TEST_CASE("a state dict goes through a file and back") {
  const test::TempDir folder;
  Net net(nn::Place{}), other(nn::Place{});
  io::save_safetensors((folder / "net.safetensors").string(), net.state_dict());
  const StateDict loaded = io::load_safetensors((folder / "net.safetensors").string());
  nn::load_state_dict(other, loaded, {.strict = true});
  const Tensor x = rand({3, 2});
  CHECK(net(x).to_vector<float>() == other(x).to_vector<float>());
  // Taken over as they are: mapped, read-only memory.
  Net mapped(nn::Place{Device::meta()});
  nn::load_state_dict(mapped, loaded, {.assign = true});
  CHECK(net(x).to_vector<float>() == mapped(x).to_vector<float>());
  CHECK((mapped.fc1.weight.storage()->flags & kReadOnly) != 0);
}

TEST_CASE("load_state_dict names every problem at once and changes nothing") {
  Net net(nn::Place{}), other(nn::Place{});
  const std::vector<float> before = net.fc1.weight.to_vector<float>();
  StateDict dict = other.state_dict();
  dict.erase(dict.begin() + 1);
  dict.emplace_back("fc3.weight", zeros({2}));
  check_error<ArgumentError>("load_state_dict_keys", [&] { nn::load_state_dict(net, dict); });
  dict[1].second = zeros({1, 9});
  check_error<ArgumentError>("load_state_dict_all", [&] { nn::load_state_dict(net, dict); });
  CHECK(net.fc1.weight.to_vector<float>() == before);
  CHECK_THROWS_AS(nn::load_state_dict(net, dict, {.strict = false}), ArgumentError);
  dict.erase(dict.begin() + 1);
  const nn::LoadResult result = nn::load_state_dict(net, dict, {.strict = false});
  CHECK(result.missing_keys == Keys{"fc1.bias", "fc2.weight"});
  CHECK(result.unexpected_keys == Keys{"fc3.weight"});
  CHECK(net.fc1.weight.to_vector<float>() == other.fc1.weight.to_vector<float>());
}

TEST_CASE("loading converts dtype and device, and keeps the parameters") {
  Net source(nn::Place{Device::cpu(), DType::f64}), net(nn::Place{Device::sim(0)});
  const Tensor handle = net.fc1.weight;
  nn::load_state_dict(net, source.state_dict());
  CHECK(handle.dtype() == DType::f32);
  CHECK(handle.device() == Device::sim(0));
  CHECK(handle.to_vector<float>() == source.fc1.weight.to_vector<float>());
}

TEST_CASE("clone and copy_weights") {
  Net net(nn::Place{}, 4);
  net.eval();
  const std::unique_ptr<Net> copy = nn::clone(net, 4);
  CHECK_FALSE(copy->is_training());
  const Tensor x = rand({3, 2});
  CHECK((*copy)(x).to_vector<float>() == net(x).to_vector<float>());
  {
    const NoGrad guard;
    copy->fc1.weight.zero_();
  }
  CHECK((*copy)(x).to_vector<float>() != net(x).to_vector<float>());
  nn::copy_weights(net, *copy);
  CHECK((*copy)(x).to_vector<float>() == net(x).to_vector<float>());
  Net wide(nn::Place{}, 5);
  CHECK_THROWS_AS(nn::copy_weights(net, wide), ArgumentError);
}

TEST_CASE("summary is a table with totals") {
  Net net(nn::Place{});
  CHECK(net.summary() ==
        "name    type    shape                    parameters  bytes\n"
        "(root)  Net\n"
        "fc1     Linear  weight [8, 2], bias [8]          24     96\n"
        "fc2     Linear  weight [1, 8]                     8     32\n"
        "total: 32 parameters, 32 of them trained, 128 bytes\n");
}

TEST_CASE("List and Sequential name their children by number") {
  nn::List<nn::Linear> list(nn::Place{}, 3, 2, 2);
  CHECK(list.size() == 3);
  CHECK(list[2].path() == "2");
  int64_t seen = 0;
  for (nn::Linear& layer : list) seen += layer.out_features();
  CHECK(seen == 6);
  check_error<ArgumentError>("list_index", [&] { list[3]; });
  check_error<ArgumentError>("list_size", [] { nn::List<nn::Linear> none(nn::Place{}, -1, 2, 2); });

  nn::Sequential<nn::Linear, nn::GELU, nn::Linear> net(nn::Place{}, nn::args(2, 8), nn::args(),
                                                       nn::args(8, 1, nn::LinearOptions{false}));
  CHECK(keys_of(net.state_dict()) == Keys{"0.weight", "0.bias", "2.weight"});
  CHECK(net.size() == 3);
  CHECK(net.type_name() == "Sequential<Linear, GELU, Linear>");
  const Tensor x = rand({5, 2});
  const Tensor by_hand =
      linear(gelu(linear(x, net.get<0>().weight, net.get<0>().bias)), net.get<2>().weight);
  CHECK(net(x).to_vector<float>() == by_hand.to_vector<float>());
  nn::Sequential<nn::ReLU, nn::Flatten> plain(nn::Place{});
  CHECK(plain(ones({2, 3, 4})).shape() == Shape{2, 12});
}
