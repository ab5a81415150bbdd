// A program that trains, and comes to a halt at a chosen place, for the tests of death and of
// speed:
//   drill forward RANK STEP     RANK waits for ever in forward, the others for its gradients
//   drill all_reduce RANK STEP  the rank behind RANK never starts its backward, so that RANK waits
//                               for it inside the all_reduce of the gradients
//   drill barrier               one barrier and no training
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include <weft/weft.hpp>

using namespace weft;

namespace {

void say(const std::string& line) {
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}

[[noreturn]] void halt() {
  while (true) pause();
}

struct Net : nn::Layer<Net> {
  nn::Linear fc1, fc2;
  bool halts = false;  ///< half-way through forward
  explicit Net(nn::At at) : Layer(at), fc1(sub("fc1"), 8, 32), fc2(sub("fc2"), 32, 1) {}
  Tensor forward(const Tensor& x) {
    const Tensor hidden = tanh(fc1(x));
    if (halts) {
      say("in forward");
      halt();
    }
    return fc2(hidden);
  }
};

void train(const std::string& place, int rank, int64_t steps) {
  manual_seed(1);
  Accelerator accelerator;
  Net net(nn::Place{});
  optim::SGD optimizer(net.parameters(), {.lr = 0.01});
  accelerator.prepare(net, optimizer);
  say("pid " + std::to_string(getpid()) + " store " + std::getenv("MASTER_PORT"));
  const int mine = accelerator.process_index();
  for (int64_t step = 0; step <= steps; ++step) {
    const bool now = step == steps;
    net.halts = now && place == "forward" && mine == rank;
    optimizer.zero_grad();
    const Tensor loss = mean(square(net(randn({4, 8}))));
    if (now && place == "all_reduce") {
      if (mine == (rank + 1) % accelerator.num_processes()) halt();
      if (mine == rank) say("into all_reduce");
    }
    accelerator.backward(loss);
    optimizer.step();
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::string place = argc > 1 ? argv[1] : "";
  if (place == "barrier") {
    Accelerator().wait_for_everyone();
    return 0;
  }
  if (argc != 4) return 2;
  train(place, std::atoi(argv[2]), std::atoi(argv[3]));
  say("trained to the end");
}
