// Three training runs against PyTorch's, step by step, each batch split over 2 and 4 ranks
// (tests/goldens/README.md). On one rank: tests/nn/golden_training.cpp.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <weft/core/ops.hpp>
#include <weft/dist/accelerator.hpp>
#include <weft/tests/dist/ranks.hpp>
#include <weft/tests/support/golden_training.hpp>

using namespace weft;
using namespace weft::dist;
using namespace weft::test;

namespace {

/// This rank's part of a run, by the calls of a training program.
TrainingResult train_rank(const std::string& name, const Group& group) {
  std::optional<Accelerator> accelerator;
  return repeat_training(
      name, {.rank = group.rank(),
             .world = group.size(),
             .prepare =
                 [&](nn::Module& model, optim::Optimizer& optimizer, int64_t count) {
                   accelerator.emplace(
                       AcceleratorOptions{.gradient_accumulation_steps = count, .group = group});
                   accelerator->prepare(model, optimizer);
                 },
             .micro_batch = [&](nn::Module&) -> std::shared_ptr<void> {
               return std::make_shared<Accelerator::Accumulation>(*accelerator);
             },
             .backward = [&](const Tensor& loss, int64_t) { accelerator->backward(loss); },
             .mean =
                 [&](double value) {
                   return accelerator->reduce(full({}, value, {.dtype = DType::f64}), "mean")
                       .item<double>();
                 }});
}

/// Whether every rank ends with the weights of the first, to the bit.
bool weights_agree(const std::vector<TrainingResult>& ranks) {
  const StateDict& first = ranks.front().weights;
  return std::all_of(ranks.begin(), ranks.end(), [&](const TrainingResult& rank) {
    if (rank.weights.size() != first.size()) return false;
    for (size_t i = 0; i < first.size(); ++i)
      if (rank.weights[i].second.to_vector<float>() != first[i].second.to_vector<float>())
        return false;
    return true;
  });
}

using TrainRank = std::function<TrainingResult(const std::string&, const Group&)>;

/// What is off in a run on ranks of these nodes, one entry each.
std::vector<std::string> problems_of(const std::string& name, const std::vector<int>& node_of,
                                     const TrainRank& train) {
  std::vector<TrainingResult> ranks(node_of.size());
  const auto body = [&](const Group& group) {
    ranks[static_cast<size_t>(group.rank())] = train(name, group);
  };
  if (node_of.back() == 0)
    run_fake_group(static_cast<int>(node_of.size()), body, 60);
  else
    run_fake_nodes(node_of, body, 60);
  std::vector<std::string> problems = compare_training(name, ranks.front());
  if (!weights_agree(ranks)) problems.push_back(name + ": the ranks' weights differ");
  return problems;
}

void run(const std::vector<int>& node_of) {
  const std::vector<std::string> names = golden_training_names();
  CHECK(!names.empty());
  size_t failed = 0;
  for (const std::string& name : names) {
    const std::vector<std::string> problems = problems_of(name, node_of, train_rank);
    for (const std::string& problem : problems) std::printf("  %s\n", problem.c_str());
    failed += !problems.empty();
  }
  std::printf("golden training: %zu runs on %zu ranks, %zu failed\n", names.size(), node_of.size(),
              failed);
  CHECK(failed == 0);
}

}  // namespace

TEST_CASE("golden training on 2 ranks") { run({0, 0}); }

TEST_CASE("golden training on 4 ranks") { run({0, 0, 0, 0}); }

TEST_CASE("golden training on 2 ranks of one node and 2 of another") { run({0, 0, 1, 1}); }

TEST_CASE("golden training on 2 ranks fails where gradients are not averaged") {
  const auto alone = [](const std::string& name, const Group& group) {
    return repeat_training(name, {.rank = group.rank(), .world = group.size()});
  };
  const std::string name = golden_training_names().front();
  const std::vector<std::string> problems = problems_of(name, {0, 0}, alone);
  CHECK(problems.size() > 2);
  CHECK(problems.back() == name + ": the ranks' weights differ");
}
