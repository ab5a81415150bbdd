// A convolutional network on the UCI digits, alone or under the launcher, with the same losses.
// The last 360 rows are held out: they are looked at once, after training.
#include <fmt/core.h>

#include <chrono>
#include <iostream>
#include <weft/weft.hpp>

#include <weft/samples/common/options.hpp>
#include <weft/samples/common/report.hpp>

using namespace weft;

namespace {

constexpr int64_t kHeldOut = 360;
constexpr int64_t kBatch =
    72;  // splits over 2, 3, 4, 6, 8, 9 and 12 ranks, as do the held-out rows

struct DigitsNet : nn::Layer<DigitsNet> {
  nn::Conv2d conv1;
  nn::GroupNorm norm1;
  nn::Conv2d conv2;
  nn::GroupNorm norm2;
  nn::Conv2d conv3;
  nn::GroupNorm norm3;
  nn::Linear fc;

  explicit DigitsNet(nn::At at, int64_t width = 32)
      : Layer(at),
        conv1(sub("conv1"), 1, width, 3, {.padding = 1}),
        norm1(sub("norm1"), 4, width),
        conv2(sub("conv2"), width, 2 * width, 3, {.padding = 1}),
        norm2(sub("norm2"), 8, 2 * width),
        conv3(sub("conv3"), 2 * width, 2 * width, 3, {.padding = 1}),
        norm3(sub("norm3"), 8, 2 * width),
        fc(sub("fc"), 2 * width * 2 * 2, 10) {}

  Tensor forward(const Tensor& pixels) {
    Tensor x = relu(norm1(conv1(pixels)));
    x = max_pool2d(relu(norm2(conv2(x))), {.kernel_size = 2});
    x = max_pool2d(relu(norm3(conv3(x))), {.kernel_size = 2});
    return fc(x.flatten(1));
  }
};

/// Moves the picture by up to one pixel each way; what comes in is empty.
data::Example shifted(data::Example example, data::ExampleRandom& random) {
  const Tensor padded = pad(example.inputs, {1, 1, 1, 1});
  const int64_t row = random.integer(0, 3), column = random.integer(0, 3);
  return {padded.narrow(-2, row, 8).narrow(-1, column, 8), example.targets};
}

double held_out_accuracy(Accelerator& accelerator, DigitsNet& net, const data::Dataset& dataset) {
  const NoGrad guard;
  net.eval();
  data::DataLoader loader(dataset, {.batch_size = kBatch});
  accelerator.prepare(loader);
  nn::metrics::Accuracy accuracy;
  for (auto& [inputs, targets] : loader) {
    const auto [predictions, labels] = accelerator.gather_for_metrics(net(inputs), targets);
    accuracy.add_batch(predictions, labels);
  }
  return accuracy.compute();
}

int train(const samples::TrainOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  manual_seed(options.seed);
  Accelerator accelerator({.split_batches = true});

  const data::CsvDataset digits(samples::find_data("digits.csv"));
  const Tensor pixels = (digits.inputs() / 16.0).reshape({-1, 1, 8, 8}).to(options.precision);
  const int64_t rows = digits.size() - kHeldOut;
  const data::TensorDataset training(pixels.slice(0, 0, rows), digits.targets().slice(0, 0, rows));
  const data::TensorDataset held_out(pixels.slice(0, rows, digits.size()),
                                     digits.targets().slice(0, rows, digits.size()));
  data::DataLoader loader(training, {.batch_size = kBatch,
                                     .shuffle = true,
                                     .seed = options.seed,
                                     .drop_last = true,
                                     .transform = shifted});
  DigitsNet net(nn::Place{Device::cpu(), options.precision});
  optim::AdamW optimizer(net.parameters(), {.lr = 3e-3, .weight_decay = 0.05});
  optim::CosineAnnealingLR scheduler(optimizer, {.T_max = options.length * loader.size()});
  accelerator.prepare(net, optimizer, loader, scheduler);

  std::vector<double> losses;
  bool stopped = false;  // by a signal: what there is by then is told as usual
  {
    samples::Progress progress(accelerator.is_main_process());
    for (int64_t epoch = 0; epoch < options.length && !stopped; ++epoch) {
      for (auto& [inputs, targets] : loader) {
        optimizer.zero_grad();
        const Tensor loss = cross_entropy(net(inputs), targets, {.label_smoothing = 0.1});
        accelerator.backward(loss);
        optimizer.step();
        scheduler.step();
        losses.push_back(accelerator.average(loss.detach()).item<double>());
        const bool last = static_cast<int64_t>(losses.size()) % loader.size() == 0;
        progress.update(fmt::format("epoch {:>2}/{}  step {:>4}  loss {:.4f}", epoch + 1,
                                    options.length, losses.size(), losses.back()),
                        last);
        if ((stopped = accelerator.stop_requested())) break;
      }
    }
  }
  const double accuracy = held_out_accuracy(accelerator, net, held_out);
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (!accelerator.is_main_process()) return 0;
  if (stopped) std::cout << fmt::format("stopped after {} steps by a signal\n", losses.size());
  std::cout << samples::chart(losses);
  if (!options.plot.empty()) samples::write_svg(options.plot, "train_digits: loss", losses);
  if (!options.json.empty()) samples::write_json(options.json, losses, accuracy, seconds);
  std::cout << fmt::format("{} steps on {} rank{} in {:.1f} s\nheld-out accuracy: {:.4f}",
                           losses.size(), accelerator.num_processes(),
                           accelerator.num_processes() == 1 ? "" : "s", seconds, accuracy)
            << std::endl;
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const auto options = samples::parse_options(
      argc, argv,
      {.description =
           "Trains a convolutional network on the UCI digits and tells its held-out accuracy.",
       .length_name = "epochs",
       .default_length = 30});
  return samples::run_program("train_digits", train, options);
}
