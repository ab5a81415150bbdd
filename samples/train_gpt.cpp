// A character-level GPT on any text file, then a sample of what it learnt.
#include <fmt/core.h>

#include <chrono>
#include <cmath>
#include <iostream>
#include <weft/weft.hpp>

#include <weft/samples/common/options.hpp>
#include <weft/samples/common/report.hpp>

using namespace weft;

namespace {

struct Config {
  int64_t vocabulary = 0;
  int64_t block_size = 64;
  int64_t width = 128;
  int64_t heads = 4;
  int64_t layers = 3;
};

struct Attention : nn::Layer<Attention> {
  nn::Linear qkv, proj;
  int64_t heads;

  Attention(nn::At at, const Config& c)
      : Layer(at),
        qkv(sub("qkv"), c.width, 3 * c.width),
        proj(sub("proj"), c.width, c.width),
        heads(c.heads) {}

  Tensor forward(const Tensor& x) {
    const int64_t batch = x.size(0), length = x.size(1), width = x.size(2);
    const auto split_heads = [&](const Tensor& t) {
      return t.view({batch, length, heads, width / heads}).transpose(1, 2);
    };
    const std::vector<Tensor> parts = split(qkv(x), width, 2);
    const Tensor y = scaled_dot_product_attention(split_heads(parts[0]), split_heads(parts[1]),
                                                  split_heads(parts[2]), {.is_causal = true});
    return proj(y.transpose(1, 2).reshape({batch, length, width}));
  }
};

struct Block : nn::Layer<Block> {
  nn::LayerNorm ln_1;
  Attention attn;
  nn::LayerNorm ln_2;
  nn::Linear fc, out;

  Block(nn::At at, const Config& c)
      : Layer(at),
        ln_1(sub("ln_1"), Shape{c.width}),
        attn(sub("attn"), c),
        ln_2(sub("ln_2"), Shape{c.width}),
        fc(sub("fc"), c.width, 4 * c.width),
        out(sub("out"), 4 * c.width, c.width) {}

  Tensor forward(Tensor x) {
    x = x + attn(ln_1(x));
    return x + out(gelu(fc(ln_2(x))));
  }
};

struct Gpt : nn::Layer<Gpt> {
  nn::Embedding tok, pos;
  nn::List<Block> blocks;
  nn::LayerNorm ln_f;

  Gpt(nn::At at, const Config& c)
      : Layer(at),
        tok(sub("tok"), c.vocabulary, c.width),
        pos(sub("pos"), c.block_size, c.width),
        blocks(sub("blocks"), c.layers, c),
        ln_f(sub("ln_f"), Shape{c.width}) {
    if (at.device().is_meta()) return;
    const NoGrad guard;
    tok.weight.mul_(0.02);  // the head is tied to it: logits start near zero
    pos.weight.mul_(0.02);
  }

  /// ids [n, t] to logits [n, t, vocabulary].
  Tensor forward(const Tensor& ids) {
    Tensor x = tok(ids) + pos.weight.slice(0, 0, ids.size(1));
    for (Block& block : blocks) x = block(x);
    return linear(ln_f(x), tok.weight);
  }
};

/// Draws `count` characters, each from the model's distribution given those before.
std::string sample(Gpt& net, const data::TextDataset& text, const Config& config, int64_t count) {
  const NoGrad guard;
  net.eval();
  std::vector<int64_t> ids = {text.tokens().select(0, 0).item<int64_t>()};
  for (int64_t i = 0; i < count; ++i) {
    const size_t first = ids.size() > static_cast<size_t>(config.block_size)
                             ? ids.size() - static_cast<size_t>(config.block_size)
                             : 0;
    const std::vector<int64_t> context(ids.begin() + static_cast<std::ptrdiff_t>(first), ids.end());
    const Tensor logits = net(tensor(context).unsqueeze(0)).select(1, -1);
    const auto probabilities = softmax(logits / 0.8, -1).flatten().to_vector<double>();
    double rest = rand({1}).item<double>();
    size_t next = 0;
    while (next + 1 < probabilities.size() && rest >= probabilities[next])
      rest -= probabilities[next++];
    ids.push_back(static_cast<int64_t>(next));
  }
  return text.decode(ids);
}

int train(const samples::TrainOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  manual_seed(options.seed);
  Accelerator accelerator({.split_batches = true});

  Config config;
  const data::TextDataset text(options.text_file, {.block_size = config.block_size});
  config.vocabulary = text.vocabulary_size();
  data::DataLoader loader(
      text, {.batch_size = 24, .shuffle = true, .seed = options.seed, .drop_last = true});

  Gpt net(nn::Place{Device::cpu(), options.precision}, config);
  optim::AdamW optimizer(net.parameters(), {.lr = 2e-3, .betas = {0.9, 0.95}, .weight_decay = 0.1});
  optim::CosineAnnealingLR scheduler(optimizer, {.T_max = options.length});
  accelerator.prepare(net, optimizer, loader, scheduler);
  int64_t weights = 0;
  for (const Tensor& parameter : net.parameters()) weights += parameter.numel();
  accelerator.print(fmt::format("{} characters, {} different ones, {} weights",
                                text.tokens().size(0), config.vocabulary, weights));

  std::vector<double> losses;
  {
    samples::Progress progress(accelerator.is_main_process());
    while (static_cast<int64_t>(losses.size()) < options.length) {
      for (auto& [inputs, targets] : loader) {
        optimizer.zero_grad();
        const Tensor logits = net(inputs);
        const Tensor loss = cross_entropy(logits.flatten(0, 1), targets.flatten());
        accelerator.backward(loss);
        accelerator.clip_grad_norm_(net.parameters(), 1.0);
        optimizer.step();
        scheduler.step();
        losses.push_back(accelerator.average(loss.detach()).item<double>());
        const auto step = static_cast<int64_t>(losses.size());
        progress.update(
            fmt::format("step {:>5}/{}  loss {:.4f}", step, options.length, losses.back()),
            step % 20 == 0 || step == options.length);
        if (step == options.length) break;
      }
    }
  }
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (!accelerator.is_main_process()) return 0;
  std::cout << samples::chart(losses) << "\n" << sample(net, text, config, 300) << "\n\n";
  if (!options.plot.empty()) samples::write_svg(options.plot, "train_gpt: loss", losses);
  if (!options.json.empty()) samples::write_json(options.json, losses, std::nullopt, seconds);
  std::cout << fmt::format("{} steps in {:.1f} s\nfinal loss: {:.4f}", losses.size(), seconds,
                           losses.back())
            << std::endl;
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const auto options = samples::parse_options(
      argc, argv,
      {.description = "Trains a character-level GPT on a text file and samples from it.",
       .length_name = "steps",
       .default_length = 300,
       .takes_text = true});
  return samples::run_program("train_gpt", train, options);
}
