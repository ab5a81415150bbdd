// Whole training steps: forward, loss, backward, optimizer, on one fixed random batch.
#include <weft/core/base/parallel.hpp>
#include <weft/weft.hpp>

#include <memory>

#include <weft/bench/harness.hpp>
#include <weft/bench/peer.hpp>

namespace {

using namespace weft;

struct Mlp : nn::Layer<Mlp> {
  nn::Linear a, b, c;
  explicit Mlp(nn::At at)
      : Layer(at), a(sub("a"), 784, 512), b(sub("b"), 512, 512), c(sub("c"), 512, 10) {}
  Tensor forward(const Tensor& x) { return c(relu(b(relu(a(x))))); }
};

constexpr int64_t kWidth = 384, kHeads = 6, kLayers = 6, kTokens = 256, kVocabulary = 65,
                  kBatch = 8;

struct Block : nn::Layer<Block> {
  nn::LayerNorm ln_1;
  nn::Linear qkv, proj;
  nn::LayerNorm ln_2;
  nn::Linear fc, out;
  explicit Block(nn::At at)
      : Layer(at),
        ln_1(sub("ln_1"), Shape{kWidth}, {.bias = false}),
        qkv(sub("qkv"), kWidth, 3 * kWidth, {.bias = false}),
        proj(sub("proj"), kWidth, kWidth, {.bias = false}),
        ln_2(sub("ln_2"), Shape{kWidth}, {.bias = false}),
        fc(sub("fc"), kWidth, 4 * kWidth, {.bias = false}),
        out(sub("out"), 4 * kWidth, kWidth, {.bias = false}) {}
  Tensor forward(Tensor x) {
    const auto heads = [](const Tensor& t) {
      return t.view({kBatch, kTokens, kHeads, kWidth / kHeads}).transpose(1, 2);
    };
    const std::vector<Tensor> parts = split(qkv(ln_1(x)), kWidth, 2);
    const Tensor y = scaled_dot_product_attention(heads(parts[0]), heads(parts[1]), heads(parts[2]),
                                                  {.is_causal = true});
    x = x + proj(y.transpose(1, 2).reshape({kBatch, kTokens, kWidth}));
    return x + out(gelu(fc(ln_2(x))));
  }
};

struct Gpt : nn::Layer<Gpt> {
  nn::Embedding tok, pos;
  nn::List<Block> blocks;
  nn::LayerNorm ln_f;
  explicit Gpt(nn::At at)
      : Layer(at),
        tok(sub("tok"), kVocabulary, kWidth),
        pos(sub("pos"), kTokens, kWidth),
        blocks(sub("blocks"), kLayers),
        ln_f(sub("ln_f"), Shape{kWidth}, {.bias = false}) {}
  Tensor forward(const Tensor& ids) {
    Tensor x = tok(ids) + pos.weight;
    for (Block& block : blocks) x = block(x);
    return linear(ln_f(x), tok.weight).view({kBatch * kTokens, kVocabulary});
  }
};

template <class Model, class Optimizer>
std::function<void()> step(std::shared_ptr<Model> model, std::shared_ptr<Optimizer> optimizer,
                           Tensor x, Tensor y) {
  return [=] {
    optimizer->zero_grad();
    cross_entropy((*model)(x), y).backward();
    optimizer->step();
  };
}

std::function<void()> mlp_step() {
  auto model = std::make_shared<Mlp>(nn::Place{});
  auto optimizer = std::make_shared<optim::SGD>(model->parameters(), optim::SGDOptions{.lr = 0.1});
  return step(model, optimizer, randn({128, 784}), randint(0, 10, {128}));
}

std::function<void()> gpt_step() {
  auto model = std::make_shared<Gpt>(nn::Place{});
  for (auto& [name, parameter] : model->named_parameters())
    if (parameter.dim() == 2) {
      const NoGrad guard;
      Tensor(parameter).mul_(0.02);
    }
  auto optimizer = std::make_shared<optim::AdamW>(
      model->parameters(),
      optim::AdamWOptions{.lr = 1e-3, .betas = {0.9, 0.99}, .weight_decay = 0.1});
  return step(model, optimizer, randint(0, kVocabulary, {kBatch, kTokens}),
              randint(0, kVocabulary, {kBatch * kTokens}));
}

}  // namespace

int main(int argc, char** argv) {
  weft::manual_seed(1);
  std::vector<weft::bench::Row> rows;
  for (const int threads : {1, 2}) {
    rows.push_back({"MLP step f32", mlp_step(), weft::bench::peer_case("MLP step f32"), threads});
    rows.push_back({"GPT step f32", gpt_step(), weft::bench::peer_case("GPT step f32"), threads});
  }
  return weft::bench::run_rows(argc, argv, rows, [](int threads) {
    weft::set_num_threads(threads);
    weft::bench::set_peer_threads(threads);
  });
}
