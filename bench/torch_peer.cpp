// The same work in libtorch. Compiled only where -Dbench_libtorch names its folder.
#include <ATen/Parallel.h>
#include <torch/torch.h>

#include <map>
#include <memory>

#include <weft/bench/peer.hpp>

namespace weft::bench {

namespace {

using Make = std::function<std::function<void()>()>;

std::function<void()> no_grad(std::function<void()> work) {
  return [work = std::move(work)] {
    const torch::NoGradGuard guard;
    work();
  };
}

Make unary(torch::Tensor (*op)(const torch::Tensor&)) {
  return [op] {
    auto x = torch::randn({1024, 4096});
    return no_grad([x, op] { auto y = op(x); });
  };
}

Make matmul_case(int64_t m, int64_t k, int64_t n, torch::ScalarType dtype) {
  return [=] {
    auto a = torch::randn({m, k}).to(dtype), b = torch::randn({k, n}).to(dtype);
    return no_grad([a, b] { auto c = torch::matmul(a, b); });
  };
}

/// A training step over a fixed batch: forward, cross entropy, backward, optimizer.
template <class Forward>
std::function<void()> step(Forward forward, torch::Tensor x, torch::Tensor y,
                           std::shared_ptr<torch::optim::Optimizer> optimizer) {
  return [=] {
    optimizer->zero_grad();
    auto loss = torch::cross_entropy_loss(forward(x), y);
    loss.backward();
    optimizer->step();
  };
}

torch::Tensor parameter(torch::Tensor t) { return t.requires_grad_(true); }

std::function<void()> mlp_step() {
  std::vector<torch::Tensor> p;
  for (auto [in, out] : {std::pair<int64_t, int64_t>{784, 512}, {512, 512}, {512, 10}}) {
    p.push_back(parameter(torch::randn({out, in}) * 0.03));
    p.push_back(parameter(torch::zeros({out})));
  }
  auto forward = [p](const torch::Tensor& x) {
    auto h = torch::relu(torch::linear(x, p[0], p[1]));
    h = torch::relu(torch::linear(h, p[2], p[3]));
    return torch::linear(h, p[4], p[5]);
  };
  return step(forward, torch::randn({128, 784}), torch::randint(10, {128}),
              std::make_shared<torch::optim::SGD>(p, torch::optim::SGDOptions(0.1)));
}

std::function<void()> gpt_step() {
  constexpr int64_t kWidth = 384, kHeads = 6, kLayers = 6, kTokens = 256, kVocabulary = 65,
                    kBatch = 8;
  std::vector<torch::Tensor> p;
  const auto add = [&p](torch::IntArrayRef shape) {
    p.push_back(parameter(torch::randn(shape) * 0.02));
  };
  const auto add_ones = [&p] { p.push_back(parameter(torch::ones({kWidth}))); };
  add({kVocabulary, kWidth});
  add({kTokens, kWidth});
  for (int64_t l = 0; l < kLayers; ++l) {
    add_ones();
    add({3 * kWidth, kWidth});
    add({kWidth, kWidth});
    add_ones();
    add({4 * kWidth, kWidth});
    add({kWidth, 4 * kWidth});
  }
  add_ones();
  auto forward = [p](const torch::Tensor& ids) {
    const auto norm = [](const torch::Tensor& x, const torch::Tensor& w) {
      return torch::layer_norm(x, {kWidth}, w);
    };
    const auto heads = [](const torch::Tensor& x) {
      return x.view({kBatch, kTokens, kHeads, kWidth / kHeads}).transpose(1, 2);
    };
    auto x = torch::embedding(p[0], ids) + p[1];
    size_t i = 2;
    for (int64_t l = 0; l < kLayers; ++l, i += 6) {
      auto qkv = torch::linear(norm(x, p[i]), p[i + 1]).split(kWidth, 2);
      auto y = at::scaled_dot_product_attention(heads(qkv[0]), heads(qkv[1]), heads(qkv[2]), {},
                                                0.0, true);
      x = x + torch::linear(y.transpose(1, 2).reshape({kBatch, kTokens, kWidth}), p[i + 2]);
      x = x + torch::linear(torch::gelu(torch::linear(norm(x, p[i + 3]), p[i + 4])), p[i + 5]);
    }
    return torch::linear(norm(x, p[i]), p[0]).view({kBatch * kTokens, kVocabulary});
  };
  auto options = torch::optim::AdamWOptions(1e-3).betas({0.9, 0.99}).weight_decay(0.1);
  return step(forward, torch::randint(kVocabulary, {kBatch, kTokens}),
              torch::randint(kVocabulary, {kBatch * kTokens}),
              std::make_shared<torch::optim::AdamW>(p, options));
}

Make chain() {
  return [] {
    auto x = torch::tensor(1.f, torch::requires_grad());
    auto c = torch::tensor(1.f);
    return [x, c]() mutable {
      x.mutable_grad() = torch::Tensor();
      auto y = x;
      for (int i = 0; i < 1000; ++i) y = y + c;
      y.backward();
    };
  };
}

Make repeat(bool recorded) {
  return [recorded]() -> std::function<void()> {
    auto a = recorded ? torch::ones({1}, torch::requires_grad()) : torch::ones({1});
    auto b = torch::full({1}, 2.f);
    std::function<void()> work = [a, b] {
      for (int i = 0; i < 1000; ++i) auto r = torch::add(a, b);
    };
    return recorded ? work : no_grad(work);
  };
}

const std::map<std::string, Make>& cases() {
  static const std::map<std::string, Make> all = {
      {"add 1 element x1000", repeat(false)},
      {"add 1 element recorded x1000", repeat(true)},
      {"chain of 1000 adds fwd+bwd", chain()},
      {"add 4M f32",
       [] {
         auto a = torch::randn({1024, 4096}), b = torch::randn({1024, 4096});
         return no_grad([a, b] { auto c = a + b; });
       }},
      {"exp 4M f32", unary([](const torch::Tensor& x) { return torch::exp(x); })},
      {"tanh 4M f32", unary([](const torch::Tensor& x) { return torch::tanh(x); })},
      {"sigmoid 4M f32", unary([](const torch::Tensor& x) { return torch::sigmoid(x); })},
      {"gelu 4M f32", unary([](const torch::Tensor& x) { return torch::gelu(x); })},
      {"gelu tanh 4M f32", unary([](const torch::Tensor& x) { return torch::gelu(x, "tanh"); })},
      {"sum 4M f32", unary([](const torch::Tensor& x) { return torch::sum(x); })},
      {"softmax 4M f32", unary([](const torch::Tensor& x) { return torch::softmax(x, -1); })},
      {"layer_norm 4M f32",
       unary([](const torch::Tensor& x) { return torch::layer_norm(x, {4096}); })},
      {"transpose copy 4M f32", unary([](const torch::Tensor& x) { return x.t().contiguous(); })},
      {"matmul 64 f32", matmul_case(64, 64, 64, torch::kFloat)},
      {"matmul 512 f32", matmul_case(512, 512, 512, torch::kFloat)},
      {"matmul 512x768x3072 f32", matmul_case(512, 768, 3072, torch::kFloat)},
      {"matmul 512x768x3072 bf16", matmul_case(512, 768, 3072, torch::kBFloat16)},
      {"cross_entropy 1024x32000 fwd+bwd",
       [] {
         auto x = torch::randn({1024, 32000}, torch::requires_grad());
         auto y = torch::randint(32000, {1024});
         return [x, y]() mutable {
           x.mutable_grad() = torch::Tensor();
           torch::cross_entropy_loss(x, y).backward();
         };
       }},
      {"embedding 32000x768 fwd+bwd",
       [] {
         auto w = torch::randn({32000, 768}, torch::requires_grad());
         auto ids = torch::randint(32000, {8, 1024});
         return [w, ids]() mutable {
           w.mutable_grad() = torch::Tensor();
           torch::embedding(w, ids).sum().backward();
         };
       }},
      {"attention 4x12x1024x64 causal",
       [] {
         auto q = torch::randn({4, 12, 1024, 64}), k = torch::randn({4, 12, 1024, 64}),
              v = torch::randn({4, 12, 1024, 64});
         return no_grad([=] { auto y = at::scaled_dot_product_attention(q, k, v, {}, 0.0, true); });
       }},
      {"conv2d 32x64x56x56 3x3",
       [] {
         auto x = torch::randn({32, 64, 56, 56}), w = torch::randn({64, 64, 3, 3});
         return no_grad([x, w] { auto y = torch::conv2d(x, w, {}, 1, 1); });
       }},
      {"MLP step f32", mlp_step},
      {"GPT step f32", gpt_step},
  };
  return all;
}

}  // namespace

std::function<void()> peer_case(const std::string& name) {
  const auto found = cases().find(name);
  return found == cases().end() ? nullptr : found->second();
}

void set_peer_threads(int count) { at::set_num_threads(count); }

}  // namespace weft::bench
