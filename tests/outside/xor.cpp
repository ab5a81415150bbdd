// The smallest network that no straight line can replace, outside weft's tree.
#include <cstdio>

#include <weft/weft.hpp>

using namespace weft;

struct Net : nn::Layer<Net> {
  nn::Linear fc1, fc2;
  explicit Net(nn::At at, int64_t hidden = 8)
      : Layer(at), fc1(sub("fc1"), 2, hidden), fc2(sub("fc2"), hidden, 1) {}
  Tensor forward(const Tensor& x) { return fc2(tanh(fc1(x))); }
};

int main() {
  manual_seed(1);
  const Tensor inputs = tensor({{0.f, 0.f}, {0.f, 1.f}, {1.f, 0.f}, {1.f, 1.f}});
  const Tensor targets = tensor({{0.f}, {1.f}, {1.f}, {0.f}});
  Net net(nn::Place{});
  optim::AdamW optimizer(net.parameters(), {.lr = 0.05, .weight_decay = 0.0});
  float last = 0;
  for (int step = 0; step < 500; ++step) {
    optimizer.zero_grad();
    Tensor loss = mse_loss(net(inputs), targets);
    loss.backward();
    optimizer.step();
    last = loss.item<float>();
  }
  std::printf("final loss: %.6f\n", static_cast<double>(last));
  return last < 0.01f ? 0 : 1;
}
