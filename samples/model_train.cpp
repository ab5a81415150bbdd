// The smallest program that trains: run it alone, or with `launcher -n 8`, for the same losses.
#include <weft/weft.hpp>

using namespace weft;

struct Net : nn::Layer<Net> {
  nn::Linear fc1, fc2;
  explicit Net(nn::At at, int64_t hidden = 64)
      : Layer(at), fc1(sub("fc1"), 1, hidden), fc2(sub("fc2"), hidden, 1) {}
  Tensor forward(const Tensor& x) { return fc2(tanh(fc1(x))); }
};

int main() {
  manual_seed(1);
  Accelerator accelerator({.split_batches = true});

  const Tensor xs = rand({2048, 1}) * 6.0 - 3.0;
  data::TensorDataset dataset(xs, sin(xs * 2.0));
  data::DataLoader loader(dataset, {.batch_size = 64, .shuffle = true, .seed = 1});

  Net net(nn::Place{});
  optim::AdamW optimizer(net.parameters(), {.lr = 1e-2});
  optim::CosineAnnealingLR scheduler(optimizer, {.T_max = 4 * loader.size()});
  accelerator.prepare(net, optimizer, loader, scheduler);

  int step = 0;
  for (int epoch = 0; epoch < 4; ++epoch) {
    for (auto& [inputs, targets] : loader) {
      optimizer.zero_grad();
      Tensor loss = mse_loss(net(inputs), targets);
      accelerator.backward(loss);
      optimizer.step();
      scheduler.step();
      const double mean_loss = accelerator.average(loss.detach()).item<double>();
      accelerator.print("step " + std::to_string(++step) + " loss " + std::to_string(mean_loss));
    }
  }
}
