// Llama: keys and shapes of a published checkpoint, and the numbers of a small one.
#include <doctest/doctest.h>

#include <chrono>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include <weft/autograd/autograd.hpp>
#include <weft/core/base/error.hpp>
#include <weft/core/memory.hpp>
#include <weft/core/ops.hpp>
#include <weft/nn/nn.hpp>
#include <weft/tests/support/errors.hpp>
#include <weft/tests/support/temp_dir.hpp>

using namespace weft;
using weft::test::check_error;

namespace {

models::LlamaConfig llama3_70b() {
  return {.vocab_size = 128256,
          .hidden_size = 8192,
          .intermediate_size = 28672,
          .num_hidden_layers = 80,
          .num_attention_heads = 64,
          .num_key_value_heads = 8,
          .max_position_embeddings = 8192,
          .rms_norm_eps = 1e-5,
          .rope_theta = 500000.0};
}

models::LlamaConfig tiny() {
  return {.vocab_size = 11,
          .hidden_size = 16,
          .intermediate_size = 24,
          .num_hidden_layers = 2,
          .num_attention_heads = 4,
          .num_key_value_heads = 2};
}

/// The keys of the checkpoint, from the published description of the architecture.
std::map<std::string, Shape> published_keys() {
  std::map<std::string, Shape> keys = {{"model.embed_tokens.weight", {128256, 8192}},
                                       {"model.norm.weight", {8192}},
                                       {"lm_head.weight", {128256, 8192}}};
  for (int i = 0; i < 80; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    keys[layer + "self_attn.q_proj.weight"] = {8192, 8192};
    keys[layer + "self_attn.k_proj.weight"] = {1024, 8192};
    keys[layer + "self_attn.v_proj.weight"] = {1024, 8192};
    keys[layer + "self_attn.o_proj.weight"] = {8192, 8192};
    keys[layer + "mlp.gate_proj.weight"] = {28672, 8192};
    keys[layer + "mlp.up_proj.weight"] = {28672, 8192};
    keys[layer + "mlp.down_proj.weight"] = {8192, 28672};
    keys[layer + "input_layernorm.weight"] = {8192};
    keys[layer + "post_attention_layernorm.weight"] = {8192};
  }
  return keys;
}

/// Resident memory of this process, in bytes.
int64_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  int64_t pages = 0, resident = 0;
  statm >> pages >> resident;
  return resident * 4096;
}

}  // namespace

TEST_CASE("the 80 layers of Llama-3-70B as modules on meta: 723 keys, no weights") {
  const int64_t before = resident_bytes();
  const auto start = std::chrono::steady_clock::now();
  models::Llama model(nn::Place{Device::meta(), DType::bf16}, llama3_70b());
  const StateDict dict = model.state_dict();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  const int64_t grown = resident_bytes() - before;
  MESSAGE("built in " << seconds.count() * 1e3 << " ms, " << grown / 1024 << " KiB");
  CHECK(dict.size() == 723);
  std::map<std::string, Shape> expected = published_keys();
  for (const auto& [key, tensor] : dict) {
    const auto found = expected.find(key);
    const auto& shown = key;  // clang 14 captures no structured binding
    REQUIRE_MESSAGE(found != expected.end(), shown);
    CHECK_MESSAGE(tensor.shape() == found->second, shown);
    CHECK(tensor.device().is_meta());
    CHECK(tensor.dtype() == DType::bf16);
    expected.erase(found);
  }
  CHECK(expected.empty());
  CHECK(seconds.count() < 1.0);
  CHECK(grown < 100 * 1024 * 1024);
  const NoGrad guard;
  const Tensor logits = model(empty({1, 16}, {.dtype = DType::i64, .device = Device::meta()}));
  CHECK(logits.shape() == Shape{1, 16, 128256});
}

TEST_CASE(
    "Llama learns: every parameter gets a gradient, and later tokens change no earlier logit") {
  models::Llama model(nn::At({}, 3), tiny());
  const Tensor ids = tensor({{1, 2, 3, 4, 5}, {5, 4, 3, 2, 1}});
  const Tensor logits = model(ids);
  CHECK(logits.shape() == Shape{2, 5, 11});
  cross_entropy(logits.flatten(0, 1), ids.flatten()).backward();
  for (auto& [name, parameter] : model.named_parameters()) {
    const auto& shown = name;  // clang 14 captures no structured binding
    CAPTURE(shown);
    REQUIRE(parameter.grad().defined());
    CHECK(sum(abs(parameter.grad())).item<float>() > 0);
  }
  const NoGrad guard;
  const Tensor changed = model(tensor({{1, 2, 3, 9, 9}, {5, 4, 3, 9, 9}}));
  const std::vector<float> a = logits.slice(1, 0, 3).contiguous().to_vector<float>();
  const std::vector<float> b = changed.slice(1, 0, 3).contiguous().to_vector<float>();
  for (size_t i = 0; i < a.size(); ++i) CHECK(a[i] == doctest::Approx(b[i]).epsilon(1e-4));
}

TEST_CASE("tied embeddings of Llama are one tensor") {
  models::LlamaConfig config = tiny();
  config.tie_word_embeddings = true;
  models::Llama model(nn::Place{}, config);
  CHECK(model.lm_head.weight.is_same(model.model.embed_tokens.weight));
  CHECK(model.named_parameters().size() + 1 == model.state_dict().size());
}

TEST_CASE("position tables: angles, and their stretching") {
  models::LlamaConfig config = tiny();
  models::Llama plain(nn::Place{}, config);
  const models::RopeTables tables = plain.model.rope_tables(3, DType::f32);
  CHECK(tables.cos.shape() == Shape{3, 4});
  CHECK(tables.cos.to_vector<float>()[0] == 1);
  CHECK(tables.sin.to_vector<float>()[8] == doctest::Approx(std::sin(2.0)));
  CHECK(tables.sin.to_vector<float>()[9] == doctest::Approx(std::sin(0.02)));
  config.rope_scaling = {.type = models::RopeScaling::Type::linear, .factor = 2};
  models::Llama stretched(nn::Place{}, config);
  CHECK(stretched.model.inv_freq.to_vector<float>()[0] == doctest::Approx(0.5));
  config.rope_scaling = {.type = models::RopeScaling::Type::llama3,
                         .factor = 4,
                         .low_freq_factor = 1,
                         .high_freq_factor = 4,
                         .original_max_position_embeddings = 16};
  models::Llama blended(nn::Place{}, config);
  // 16 / 2 pi = 2.55 turns: between 1 and 4, so part is kept; 0.03 turns: all is stretched.
  const double part = (16 / 6.283185307179586 - 1) / 3;
  const std::vector<float> inv_freq = blended.model.inv_freq.to_vector<float>();
  CHECK(inv_freq[0] == doctest::Approx((1 - part) / 4 + part));
  CHECK(inv_freq[1] == doctest::Approx(0.01 / 4));
}

TEST_CASE("config.json is read, old and new spellings of the position embedding") {
  const test::TempDir folder;
  const auto read = [&](const std::string& text) {
    std::ofstream(folder / "config.json") << text;
    return models::LlamaConfig::from_pretrained(folder.path().string());
  };
  const models::LlamaConfig old = read(
      R"({"model_type": "llama", "hidden_size": 32, "num_attention_heads": 4, "head_dim": null,
          "num_key_value_heads": 2, "rope_theta": 500000.0, "max_position_embeddings": 64,
          "rope_scaling": {"type": "linear", "factor": 2.0}})");
  CHECK(old.hidden_size == 32);
  CHECK(old.key_value_heads() == 2);
  CHECK(old.head_size() == 8);
  CHECK(old.rope_theta == 500000.0);
  CHECK(old.rope_scaling.type == models::RopeScaling::Type::linear);
  const models::LlamaConfig fresh = read(
      R"({"rope_parameters": {"rope_type": "llama3", "rope_theta": 7.0, "factor": 4.0,
          "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 16}})");
  CHECK(fresh.rope_theta == 7.0);
  CHECK(fresh.rope_scaling.type == models::RopeScaling::Type::llama3);
  CHECK(fresh.rope_scaling.original_max_position_embeddings == 16);
  const auto hide = [&](std::string text) {
    return test::replaced(std::move(text), folder.path().string(), "DIR");
  };
  check_error<FormatError>(
      "llama_config_model", [&] { read(R"({"model_type": "gpt2"})"); }, hide);
  check_error<FormatError>(
      "llama_config_activation", [&] { read(R"({"hidden_act": "gelu"})"); }, hide);
  check_error<FormatError>(
      "llama_config_rope", [&] { read(R"({"rope_scaling": {"rope_type": "yarn"}})"); }, hide);
  CHECK_THROWS_AS(read("{"), FormatError);
  CHECK_THROWS_AS(read(R"({"hidden_size": "many"})"), FormatError);
  check_error<IoError>(
      "llama_config_missing",
      [&] { models::LlamaConfig::from_pretrained((folder / "none").string()); }, hide);
}

TEST_CASE("what Llama refuses") {
  models::LlamaConfig config = tiny();
  config.num_key_value_heads = 3;
  check_error<ArgumentError>("llama_kv_heads", [&] { models::Llama bad(nn::Place{}, config); });
  config = tiny();
  config.hidden_size = 18;
  check_error<ArgumentError>("llama_hidden_size", [&] { models::Llama bad(nn::Place{}, config); });
  config = tiny();
  config.head_dim = 3;
  check_error<ArgumentError>("llama_head_dim", [&] { models::Llama bad(nn::Place{}, config); });
  config = tiny();
  config.num_attention_heads = 0;
  check_error<ArgumentError>("llama_heads", [&] { models::Llama bad(nn::Place{}, config); });
  models::Llama model(nn::Place{}, tiny());
  check_error<ArgumentError>("llama_input", [&] { model(tensor({1, 2})); });
}
