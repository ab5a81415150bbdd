// Three training runs against PyTorch's, step by step (tests/goldens/README.md). At 2 and 4 ranks:
// tests/dist/golden_training.cpp.
#include <doctest/doctest.h>

#include <cstdio>
#include <string>
#include <vector>

#include <weft/tests/support/golden_training.hpp>

using namespace weft;
using namespace weft::test;

namespace {

void run(const TrainingSeams& seams) {
  const std::vector<std::string> names = golden_training_names();
  CHECK(!names.empty());
  size_t failed = 0;
  for (const std::string& name : names) {
    const std::vector<std::string> problems = compare_training(name, repeat_training(name, seams));
    for (const std::string& problem : problems) std::printf("  %s\n", problem.c_str());
    failed += !problems.empty();
  }
  std::printf("golden training: %zu runs on %s, %zu failed\n", names.size(),
              to_string(seams.device).c_str(), failed);
  CHECK(failed == 0);
}

}  // namespace

TEST_CASE("golden training") { run({}); }

TEST_CASE("golden training on the sim device") { run({.device = Device::sim()}); }

TEST_CASE("golden training fails where a loss, a weight or a rate is off") {
  const std::string name = golden_training_names().front();
  const TrainingResult good = repeat_training(name);
  REQUIRE(compare_training(name, good).empty());
  TrainingResult bad = good;
  bad.losses.back() *= 1.001;
  bad.rates.front() *= 1.001;
  Tensor& weight = bad.weights.front().second;
  weight = weight.clone();
  weight.mutable_data<float>()[0] += 1.f;
  bad.weights.pop_back();
  CHECK(compare_training(name, bad).size() == 4);
}
