#include <weft/tests/support/golden_training.hpp>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>

#include <nlohmann/json.hpp>

#include <weft/autograd/autograd.hpp>
#include <weft/core/io/safetensors.hpp>
#include <weft/core/ops.hpp>
#include <weft/nn/containers.hpp>
#include <weft/nn/data/dataset.hpp>
#include <weft/nn/layers.hpp>
#include <weft/nn/optim/clip.hpp>
#include <weft/nn/optim/optimizers.hpp>
#include <weft/nn/optim/schedules.hpp>
#include <weft/nn/state.hpp>
#include <weft/tests/support/golden_ops.hpp>

namespace weft::test {

namespace {

/// The number behind " key=" in texts such as "AdamW lr=2e-3 betas=(.9,.95)".
double number_in(const std::string& text, const std::string& key, double otherwise) {
  const size_t at = text.find(" " + key + "=");
  if (at == std::string::npos) return otherwise;
  const char* start = text.c_str() + at + key.size() + 2;
  return std::strtod(*start == '(' ? start + 1 : start, nullptr);
}

std::pair<double, double> betas_in(const std::string& text) {
  const size_t at = text.find("betas=(");
  if (at == std::string::npos) return {0.9, 0.999};
  char* comma = nullptr;
  const double first = std::strtod(text.c_str() + at + 7, &comma);
  return {first, std::strtod(comma + 1, nullptr)};
}

struct Mlp : nn::Layer<Mlp> {
  nn::Linear fc1, fc2;
  Mlp(nn::At at, int64_t in, int64_t hidden, int64_t out)
      : Layer(at), fc1(sub("fc1"), in, hidden), fc2(sub("fc2"), hidden, out) {}
  Tensor forward(const Tensor& x) const { return fc2(relu(fc1(x))); }
};

struct Cnn : nn::Layer<Cnn> {
  nn::Conv2d conv1;
  nn::GroupNorm norm;
  nn::Conv2d conv2;
  nn::Linear fc;
  explicit Cnn(nn::At at)
      : Layer(at),
        conv1(sub("conv1"), 1, 12, 3, {.padding = 1}),
        norm(sub("norm"), 3, 12),
        conv2(sub("conv2"), 12, 16, 3),
        fc(sub("fc"), 144, 10) {}
  Tensor forward(const Tensor& x) const {
    const Tensor pooled =
        max_pool2d(conv2(silu(norm(conv1(x.reshape({-1, 1, 8, 8}))))), {.kernel_size = 2});
    return fc(relu(pooled).flatten(1));
  }
};

struct Block : nn::Layer<Block> {
  nn::LayerNorm ln_1;
  nn::Linear qkv, proj;
  nn::LayerNorm ln_2;
  nn::Linear fc, out;
  int64_t heads;
  Block(nn::At at, int64_t dim, int64_t head_count)
      : Layer(at),
        ln_1(sub("ln_1"), dim),
        qkv(sub("qkv"), dim, 3 * dim),
        proj(sub("proj"), dim, dim),
        ln_2(sub("ln_2"), dim),
        fc(sub("fc"), dim, 4 * dim),
        out(sub("out"), 4 * dim, dim),
        heads(head_count) {}
  Tensor attend(const Tensor& x) const {
    const int64_t batch = x.size(0), length = x.size(1), dim = x.size(2);
    std::vector<Tensor> parts = chunk(qkv(x), 3, -1);
    for (Tensor& part : parts)
      part = part.reshape({batch, length, heads, dim / heads}).transpose(1, 2);
    const Tensor mixed =
        scaled_dot_product_attention(parts[0], parts[1], parts[2], {.is_causal = true});
    return proj(mixed.transpose(1, 2).reshape({batch, length, dim}));
  }
  Tensor forward(const Tensor& x) const {
    const Tensor y = x + attend(ln_1(x));
    return y + out(gelu(fc(ln_2(y)), {.approximate = GeluApproximation::tanh}));
  }
};

struct Gpt : nn::Layer<Gpt> {
  nn::Embedding tok, pos;
  nn::List<Block> blocks;
  nn::LayerNorm ln_f;
  Gpt(nn::At at, int64_t dim, int64_t heads, int64_t depth, int64_t length)
      : Layer(at),
        tok(sub("tok"), 256, dim),
        pos(sub("pos"), length, dim),
        blocks(sub("blocks"), depth, dim, heads),
        ln_f(sub("ln_f"), dim) {}
  Tensor forward(const Tensor& tokens) {
    Tensor x = tok(tokens) + pos(arange(0, tokens.size(1)).to(tokens.device()));
    for (Block& block : blocks) x = block(x);
    return linear(ln_f(x), tok.weight).flatten(0, 1);
  }
};

/// A file, its loop and its data.
class Run {
 public:
  Run(const std::string& name, const TrainingSeams& seams)
      : file_(golden_folder() + "/training/" + name + ".safetensors"), seams_(seams) {
    const auto json = nlohmann::json::parse(file_.metadata().at("case"));
    model_text_ = json.at("model").get<std::string>();
    optimizer_text_ = json.at("optimizer").get<std::string>();
    schedule_text_ = json.value("schedule", "");
    steps_ = json.at("steps").get<int64_t>();
    accumulate_ = json.at("accumulate").get<int64_t>();
    if (!json.at("clip").is_null()) clip_ = json.at("clip").get<double>();
    picks_ = file_.tensor("picks");
    if (picks_.size(1) % seams.world != 0)
      throw std::invalid_argument("batches of " + std::to_string(picks_.size(1)) + " rows for " +
                                  std::to_string(seams.world) + " ranks");
    if (json.contains("text"))
      data_ = std::make_unique<data::TextDataset>(
          golden_folder() + "/training/GPL-3",
          data::TextOptions{.block_size = whole("T", 32), .bytes = true});
    else
      data_ = std::make_unique<data::CsvDataset>(WEFT_SOURCE_ROOT "/samples/data/digits.csv");
  }

  TrainingResult train() {
    const nn::At root(nn::Place{seams_.device});
    if (model_text_.starts_with("mlp"))
      return train<Mlp>(root, int64_t{64}, file_.tensor("init.fc1.bias").numel(), int64_t{10});
    if (model_text_.starts_with("cnn")) return train<Cnn>(root);
    return train<Gpt>(root, whole("d", 64), whole("heads", 4), whole("blocks", 2), whole("T", 32));
  }

 private:
  int64_t whole(const char* key, int64_t otherwise) const {
    return static_cast<int64_t>(number_in(model_text_, key, static_cast<double>(otherwise)));
  }

  std::unique_ptr<optim::Optimizer> make_optimizer(const nn::Module& model) const {
    const std::string& text = optimizer_text_;
    const double lr = number_in(text, "lr", 1e-3);
    if (text.starts_with("SGD"))
      return std::make_unique<optim::SGD>(
          model.parameters(),
          optim::SGDOptions{.lr = lr,
                            .momentum = number_in(text, "momentum", 0),
                            .weight_decay = number_in(text, "weight_decay", 0)});
    return std::make_unique<optim::AdamW>(
        model.parameters(),
        optim::AdamWOptions{.lr = lr,
                            .betas = betas_in(text),
                            .weight_decay = number_in(text, "weight_decay", 1e-2)});
  }

  /// This rank's rows of a micro-batch.
  data::Example batch(int64_t row) const {
    const int64_t share = picks_.size(1) / seams_.world;
    const int64_t* const first =
        picks_.data<int64_t>() + row * picks_.size(1) + seams_.rank * share;
    data::Example example = data_->batch({first, static_cast<size_t>(share)});
    if (example.inputs.is_floating_point()) example.inputs = example.inputs / 16.0;
    return {example.inputs.to(seams_.device), example.targets.to(seams_.device)};
  }

  /// One optimizer step; returns the loss over this rank's rows.
  template <class Model>
  double step(Model& model, optim::Optimizer& optimizer, int64_t number) {
    optimizer.zero_grad();
    double total = 0;
    for (int64_t micro = 0; micro < accumulate_; ++micro) {
      const std::shared_ptr<void> guard =
          seams_.micro_batch ? seams_.micro_batch(model) : std::shared_ptr<void>();
      const auto [inputs, targets] = batch(number * accumulate_ + micro);
      const Tensor loss = cross_entropy(model(inputs), targets.flatten());
      if (seams_.backward)
        seams_.backward(loss, accumulate_);
      else
        (loss / static_cast<double>(accumulate_)).backward();
      total += loss.template item<double>();
      if (micro + 1 < accumulate_) continue;
      if (clip_ > 0) nn::clip_grad_norm_(model.parameters(), clip_);
      optimizer.step();
    }
    return total / static_cast<double>(accumulate_);
  }

  template <class Model, class... Config>
  TrainingResult train(const nn::At& root, const Config&... config) {
    Model model(root, config...);
    StateDict first;
    for (const std::string& key : file_.keys())
      if (key.starts_with("init.")) first.emplace_back(key.substr(5), file_.tensor(key));
    nn::load_state_dict(model, first);
    const std::unique_ptr<optim::Optimizer> optimizer = make_optimizer(model);
    std::unique_ptr<optim::Schedule> schedule;
    if (schedule_text_.starts_with("CosineAnnealingLR"))
      schedule = std::make_unique<optim::CosineAnnealingLR>(
          *optimizer, optim::CosineAnnealingLROptions{
                          .T_max = static_cast<int64_t>(number_in(schedule_text_, "T_max", 1))});
    if (seams_.prepare) seams_.prepare(model, *optimizer, accumulate_);
    TrainingResult result;
    for (int64_t number = 0; number < steps_; ++number) {
      result.rates.push_back(optimizer->groups().front().lr);
      const double loss = step(model, *optimizer, number);
      result.losses.push_back(seams_.mean ? seams_.mean(loss) : loss);
      if (schedule) schedule->step();
    }
    for (const auto& [key, tensor] : model.state_dict())
      result.weights.emplace_back(key, tensor.cpu().clone());
    return result;
  }

  io::SafetensorsFile file_;
  const TrainingSeams& seams_;
  std::string model_text_, optimizer_text_, schedule_text_;
  int64_t steps_ = 0, accumulate_ = 1;
  double clip_ = 0;  // none
  Tensor picks_;
  std::unique_ptr<data::Dataset> data_;
};

/// "step 3: loss 1.25, not 1.5" for the first step that is off; empty where none is.
std::string compare_series(const char* what, const std::vector<double>& got,
                           const std::vector<double>& want, double bound) {
  if (got.size() != want.size())
    return std::string(what) + ": " + std::to_string(got.size()) + " steps, not " +
           std::to_string(want.size());
  for (size_t i = 0; i < got.size(); ++i)
    if (!(std::abs(got[i] - want[i]) <= bound * std::abs(want[i])))
      return "step " + std::to_string(i) + ": " + what + " " + std::to_string(got[i]) + ", not " +
             std::to_string(want[i]);
  return "";
}

}  // namespace

std::vector<std::string> golden_training_names() {
  std::vector<std::string> names;
  for (const auto& item : std::filesystem::directory_iterator(golden_folder() + "/training"))
    if (item.path().extension() == ".safetensors") names.push_back(item.path().stem().string());
  std::sort(names.begin(), names.end());
  return names;
}

TrainingResult repeat_training(const std::string& name, const TrainingSeams& seams) {
  return Run(name, seams).train();
}

std::vector<std::string> compare_training(const std::string& name, const TrainingResult& result) {
  const io::SafetensorsFile file(golden_folder() + "/training/" + name + ".safetensors");
  std::vector<std::string> problems;
  const auto note = [&](const std::string& what, const std::string& problem) {
    if (!problem.empty()) problems.push_back(name + ": " + what + problem);
  };
  note("", compare_series("loss", result.losses, file.tensor("losses").to_vector<double>(), 2e-4));
  note("", compare_series("rate", result.rates, file.tensor("lrs").to_vector<double>(), 1e-9));
  size_t expected = 0;
  for (const std::string& key : file.keys()) expected += key.starts_with("final.");
  if (result.weights.size() != expected)
    note("", std::to_string(result.weights.size()) + " weights, not " + std::to_string(expected));
  for (const auto& [key, tensor] : result.weights)
    if (file.contains("final." + key))
      note(key + ": ", compare(tensor, file.tensor("final." + key), 1e-3));
    else
      note(key, " is not in the file");
  return problems;
}

}  // namespace weft::test
