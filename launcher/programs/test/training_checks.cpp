// Training on ranks against training in one process: point 7 of Accelerate's own test, and data
// parallelism.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <weft/core/ops.hpp>
#include <weft/dist/accelerator.hpp>
#include <weft/launcher/programs/test/check.hpp>
#include <weft/nn/data/data_loader.hpp>
#include <weft/nn/nn.hpp>
#include <weft/nn/optim/optimizers.hpp>

namespace weft::inline v0::self_test {

namespace {

struct Line : nn::Layer<Line> {
  nn::Linear fc;
  explicit Line(nn::At at) : Layer(at), fc(sub("fc"), 1, 1) {}
  Tensor forward(const Tensor& x) { return fc(x); }
};

struct Net : nn::Layer<Net> {
  nn::Linear fc1, fc2, fc3;
  explicit Net(nn::At at)
      : Layer(at), fc1(sub("fc1"), 16, 64), fc2(sub("fc2"), 64, 64), fc3(sub("fc3"), 64, 4) {}
  Tensor forward(const Tensor& x) { return fc3(tanh(fc2(tanh(fc1(x))))); }
};

/// Values that look like noise, the same on every rank.
Tensor noise(const Shape& shape, double step) {
  std::vector<float> values(static_cast<size_t>(shape.numel()));
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<float>(std::sin(step * static_cast<double>(i * i % 10007)));
  return from_host(values.data(), shape, DType::f32);
}

std::vector<double> weights_of(const nn::Module& module) {
  std::vector<double> all;
  for (const Tensor& parameter : module.parameters())
    for (const double value : parameter.detach().to(DType::f64).to_vector<double>())
      all.push_back(value);
  return all;
}

/// The largest |a - b| / (1 + |b|).
double distance(const std::vector<double>& a, const std::vector<double>& b) {
  require(a.size() == b.size(), "{} numbers against {}", a.size(), b.size());
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i)
    // A NaN must not look like a small one.
    worst = std::isfinite(a[i]) ? std::max(worst, std::abs(a[i] - b[i]) / (1 + std::abs(b[i])))
                                : INFINITY;
  return worst;
}

struct Recipe {
  int epochs;
  int64_t batch;  // of all ranks together
  bool split_batches;
  double learning_rate;
};

struct Trained {
  std::vector<double> weights, losses;
};

template <class Model>
Trained train(const dist::Group& group, const data::TensorDataset& dataset, const Recipe& recipe) {
  Accelerator accelerator({.split_batches = recipe.split_batches, .group = group});
  // Other first values on other ranks: rank 0's must win.
  Model model(nn::At(nn::Place{}, 42 + static_cast<uint64_t>(group.rank())));
  optim::SGD optimizer(model.parameters(), {.lr = recipe.learning_rate});
  const int64_t batch = recipe.split_batches ? recipe.batch : recipe.batch / group.size();
  data::DataLoader loader(dataset, {.batch_size = batch, .shuffle = true, .seed = 7});
  accelerator.prepare(model, optimizer, loader);
  Trained result;
  for (int epoch = 0; epoch < recipe.epochs; ++epoch)
    for (auto& [inputs, targets] : loader) {
      optimizer.zero_grad();
      const Tensor loss = mse_loss(model(inputs), targets);
      accelerator.backward(loss);
      optimizer.step();
      result.losses.push_back(accelerator.average(loss).template item<double>());
    }
  result.weights = weights_of(model);
  return result;
}

void require_equal_ranks(const dist::Group& group, const std::vector<double>& weights) {
  const Tensor own = tensor(weights);
  const auto rows = group.all_gather(own).to_vector<double>();
  for (size_t i = weights.size(); i < rows.size(); ++i)
    require(rows[i] == rows[i % weights.size()], "rank {} has other weights than rank 0",
            i / weights.size());
}

/// y = 2 x + 3 with noise, three epochs of SGD.
std::string regression(const Context& context, bool split_batches) {
  const Tensor x = noise({96, 1}, 0.7);
  const data::TensorDataset dataset(x, x * 2.0 + 3.0 + noise({96, 1}, 1.9) * 0.1);
  const Recipe recipe{3, 8 * context.size(), split_batches, 0.1};
  const Trained alone = train<Line>(dist::Group(), dataset, {3, recipe.batch, true, 0.1});
  const Trained here = train<Line>(context.group, dataset, recipe);
  require_equal_ranks(context.group, here.weights);
  const double worst = distance(here.weights, alone.weights);
  require(worst <= 1e-6, "weights differ from those of one process by {:.1e}; 1e-6 is allowed",
          worst);
  return fmt::format("weights as in one process within {:.0e}", std::max(worst, 1e-12));
}

std::string data_parallel(const Context& context) {
  const int64_t length = 12 * context.size() + 3;  // the last batch does not divide
  const data::TensorDataset dataset(noise({length, 16}, 0.3), noise({length, 4}, 1.1));
  const Recipe recipe{4, 4 * context.size(), true, 0.05};
  const Trained alone = train<Net>(dist::Group(), dataset, recipe);
  const Trained here = train<Net>(context.group, dataset, recipe);
  require_equal_ranks(context.group, here.weights);
  const double losses = distance(here.losses, alone.losses);
  const double weights = distance(here.weights, alone.weights);
  require(losses <= 1e-5, "losses differ from those of one process by {:.1e}", losses);
  require(weights <= 1e-5, "weights differ from those of one process by {:.1e}", weights);
  return fmt::format("{} steps, losses as in one process within {:.0e}", here.losses.size(),
                     std::max(losses, 1e-12));
}

}  // namespace

void add_training_checks(std::vector<Check>& checks) {
  checks.push_back({"training", [](const Context& context) { return regression(context, false); }});
  checks.push_back(
      {"training_split", [](const Context& context) { return regression(context, true); }});
  checks.push_back({"mixed_precision", [](const Context&) -> std::string {
                      throw Skip("training in bf16 and f16 comes later");
                    }});
  checks.push_back({"data_parallel", data_parallel});
  checks.push_back({"zero", [](const Context&) -> std::string {
                      throw Skip("sharded optimizers (ZeRO) come later");
                    }});
}

}  // namespace weft::inline v0::self_test
