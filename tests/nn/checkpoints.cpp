// Published architectures with random weights: logits and greedy tokens of another implementation.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include <weft/autograd/autograd.hpp>
#include <weft/core/base/env.hpp>
#include <weft/core/base/error.hpp>
#include <weft/core/io/safetensors.hpp>
#include <weft/core/ops.hpp>
#include <weft/nn/nn.hpp>

using namespace weft;

namespace {

std::filesystem::path checkpoints_folder() {
  const std::filesystem::path goldens =
      env::get("WEFT_GOLDENS").value_or(WEFT_SOURCE_ROOT "/tests/goldens");
  return goldens / "checkpoints";
}

Tensor find(const StateDict& dict, const std::string& key) {
  for (const auto& [name, tensor] : dict)
    if (name == key) return tensor;
  throw ArgumentError("expected.safetensors has no " + key);
}

/// The largest value's place and how far it is above the second largest.
struct Best {
  int64_t index = 0;
  double lead = 0;
};
Best best_of(const double* values, int64_t n) {
  Best best;
  for (int64_t i = 1; i < n; ++i)
    if (values[i] > values[best.index]) best.index = i;
  double second = -INFINITY;
  for (int64_t i = 0; i < n; ++i)
    if (i != best.index) second = std::max(second, values[i]);
  best.lead = values[best.index] - second;
  return best;
}

constexpr double kClear = 0.1;  // logits closer than this may change places in 16 bits

/// Empty where logits agree, else what differs.
std::string compare_logits(const Tensor& got, const Tensor& want, bool exact) {
  if (!(got.shape() == want.shape())) return "logits " + to_string(got.shape());
  const std::vector<double> a = got.to_vector<double>(), b = want.to_vector<double>();
  double largest = 0, difference = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    largest = std::max(largest, std::abs(b[i]));
    const double d = std::abs(a[i] - b[i]);
    if (!(d <= difference)) difference = d;
  }
  if (!(difference <= (exact ? 1e-4 : 2e-2) * largest))
    return "logits differ by " + std::to_string(difference / largest) + " of the largest";
  const int64_t n = want.size(-1);
  for (size_t row = 0; row < b.size(); row += static_cast<size_t>(n)) {
    const Best wanted = best_of(&b[row], n);
    if (wanted.lead > kClear && best_of(&a[row], n).index != wanted.index)
      return "another best token at row " + std::to_string(row / static_cast<size_t>(n));
  }
  return "";
}

/// Continues row 0 of the prompt, up to the first choice that is no clear one.
std::string compare_greedy(models::Llama& model, const Tensor& prompt, const Tensor& want) {
  std::vector<int64_t> tokens = prompt.select(0, 0).contiguous().to_vector<int64_t>();
  const std::vector<int64_t> expected = want.flatten().to_vector<int64_t>();
  for (size_t i = 0; i < expected.size(); ++i) {
    const Tensor logits = model(tensor(tokens).unsqueeze(0));
    const std::vector<double> last =
        logits.select(0, 0).select(0, -1).contiguous().to_vector<double>();
    const Best best = best_of(last.data(), static_cast<int64_t>(last.size()));
    if (best.lead <= kClear) return "";
    if (best.index != expected[i]) return "another token at place " + std::to_string(i);
    tokens.push_back(best.index);
  }
  return "";
}

/// Runs one checkpoint; `change` is added to the first element of one weight.
std::string compare_checkpoint(const std::filesystem::path& folder, double change = 0) {
  const NoGrad guard;
  const bool exact = folder.string().ends_with("float32");
  models::Llama model(nn::Place{Device::meta(), exact ? DType::f32 : DType::bf16},
                      models::LlamaConfig::from_pretrained(folder.string()));
  model.to_empty(Device::cpu());
  nn::load_state_dict(model, io::load_safetensors(folder.string()));
  Tensor first = model.model.layers[0].self_attn.q_proj.weight.detach().flatten().slice(0, 0, 1);
  first.add_(change);
  model.eval();
  const StateDict expected = io::load_safetensors((folder / "expected.safetensors").string());
  const Tensor ids = find(expected, "input_ids").to(DType::i64);
  const std::string problem = compare_logits(model(ids), find(expected, "logits"), exact);
  return problem.empty() ? compare_greedy(model, ids, find(expected, "greedy").to(DType::i64))
                         : problem;
}

}  // namespace

TEST_CASE("golden checkpoints") {
  int cases = 0, failed = 0;
  for (const auto& item : std::filesystem::directory_iterator(checkpoints_folder())) {
    const std::string name = item.path().filename().string();
    if (!name.starts_with("llama-")) continue;
    ++cases;
    const std::string problem = compare_checkpoint(item.path());
    failed += !problem.empty();
    CHECK_MESSAGE(problem.empty(), name << ": " << problem);
  }
  CHECK(cases > 0);
  std::printf("golden checkpoints: %d cases, %d failed\n", cases, failed);
}

TEST_CASE("golden checkpoints fail where a weight was changed") {
  const std::filesystem::path folder = checkpoints_folder() / "llama-float32";
  CHECK(compare_checkpoint(folder).empty());
  CHECK_FALSE(compare_checkpoint(folder, 1.0).empty());
}
