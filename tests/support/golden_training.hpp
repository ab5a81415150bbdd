// The training runs of tests/goldens/training, repeated: three models, any device, any number of
// ranks.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <weft/core/io/state_dict.hpp>
#include <weft/core/tensor.hpp>
#include <weft/nn/module.hpp>
#include <weft/nn/optim/optimizer.hpp>

namespace weft::test {

/// What differs between one process and several. Each part has a meaning for one process.
struct TrainingSeams {
  Device device = Device::cpu();
  int rank = 0;
  int world = 1;  ///< must divide the batches of 8 and 32

  /// Before the first step, with the micro-batches of a step; weights are loaded, the model is on
  /// `device`.
  std::function<void(nn::Module&, optim::Optimizer&, int64_t count)> prepare = nullptr;
  /// At the start of each micro-batch; what it returns is dropped at its end.
  std::function<std::shared_ptr<void>(nn::Module&)> micro_batch = nullptr;
  /// Backward of one of `count` micro-batches, `loss` the mean over this rank's part of it. The
  /// gradients must end up as those of the mean over all ranks and micro-batches. Unless given:
  /// (loss / count).backward().
  std::function<void(const Tensor& loss, int64_t count)> backward = nullptr;
  /// The mean of a number over all ranks; unless given, the number.
  std::function<double(double)> mean = nullptr;
};

struct TrainingResult {
  std::vector<double> losses;  ///< of each step, over all ranks
  std::vector<double> rates;   ///< learning rate of each step
  StateDict weights;           ///< at the end, on the CPU
};

/// Files of golden_folder()/training, without the ending: "mlp-sgd" …
std::vector<std::string> golden_training_names();

/// Trains as the file says, from its first weights.
TrainingResult repeat_training(const std::string& name, const TrainingSeams& seams = {});

/// Every step's loss within 2e-4 of the file's, rates within 1e-9, final weights within 1e-3 of
/// each tensor's largest value. Returns what is not, one entry each.
std::vector<std::string> compare_training(const std::string& name, const TrainingResult& result);

}  // namespace weft::test
