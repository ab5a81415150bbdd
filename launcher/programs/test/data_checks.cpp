// Loaders and their order: points 5 and 6 of Accelerate's own test.
#include <algorithm>
#include <string>
#include <vector>

#include <weft/core/ops.hpp>
#include <weft/dist/accelerator.hpp>
#include <weft/launcher/programs/test/check.hpp>
#include <weft/nn/data/data_loader.hpp>

namespace weft::inline v0::self_test {

namespace {

std::vector<int64_t> range(int64_t n) { return arange(0, n).to_vector<int64_t>(); }

/// The examples that all ranks together see in the next epoch, in their order.
std::vector<int64_t> epoch_of(Accelerator& accelerator, data::DataLoader& loader) {
  std::vector<int64_t> seen;
  for (auto& [inputs, targets] : loader)
    for (const int64_t value : accelerator.gather_for_metrics(inputs).to_vector<int64_t>())
      seen.push_back(value);
  return seen;
}

data::TensorDataset numbered(int64_t length) {
  return data::TensorDataset(arange(0, length), arange(0, length));
}

/// Gathered over the ranks, each example comes once, also where the last batch is not full.
std::string covers(const Context& context, bool shuffle, bool split_batches) {
  for (const int64_t length : {int64_t{32} * context.size(), int64_t{32} * context.size() + 5}) {
    Accelerator accelerator({.split_batches = split_batches, .group = context.group});
    const data::TensorDataset dataset = numbered(length);
    const int64_t batch = split_batches ? 8 * context.size() : 8;
    data::DataLoader loader(dataset, {.batch_size = batch, .shuffle = shuffle, .seed = 5});
    accelerator.prepare(loader);
    std::vector<int64_t> seen = epoch_of(accelerator, loader);
    require(static_cast<int64_t>(seen.size()) == length, "{} of {} examples", seen.size(), length);
    if (shuffle) {
      require(seen != range(length), "not shuffled");
      std::sort(seen.begin(), seen.end());
    }
    require(seen == range(length), "examples are missing, repeated or out of order");
  }
  return {};
}

/// The order is a function of seed and epoch, on any number of ranks.
std::string epochs(const Context& context) {
  const int64_t length = 40;
  const data::TensorDataset dataset = numbered(length);
  const auto orders = [&](uint64_t seed, const dist::Group& group, int64_t batch) {
    Accelerator accelerator({.split_batches = true, .group = group});
    data::DataLoader loader(dataset, {.batch_size = batch, .shuffle = true, .seed = seed});
    accelerator.prepare(loader);
    std::vector<std::vector<int64_t>> all;
    for (int epoch = 0; epoch < 3; ++epoch) all.push_back(epoch_of(accelerator, loader));
    return all;
  };
  const int64_t batch = 2 * context.size();
  const auto first = orders(42, context.group, batch);
  require(first == orders(42, context.group, batch), "the same seed gives another order");
  require(first == orders(42, dist::Group(), batch), "one rank alone has another order");
  require(first[0] != first[1] && first[1] != first[2], "two epochs have the same order");
  require(first != orders(43, context.group, batch), "another seed gives the same order");
  return {};
}

}  // namespace

void add_data_checks(std::vector<Check>& checks) {
  const auto loader = [&](const char* name, bool shuffle, bool split_batches) {
    checks.push_back(
        {name, [=](const Context& context) { return covers(context, shuffle, split_batches); }});
  };
  loader("loader_sequential", false, false);
  loader("loader_sequential_split", false, true);
  loader("loader_shuffled", true, false);
  loader("loader_shuffled_split", true, true);
  checks.push_back({"loader_dispatch", [](const Context&) -> std::string {
                      throw Skip("loaders read on every rank; dispatch_batches comes later");
                    }});
  checks.push_back({"batch_sampler", [](const Context&) -> std::string {
                      throw Skip("loaders take no samplers of one's own yet");
                    }});
  checks.push_back({"epochs", epochs});
}

}  // namespace weft::inline v0::self_test
