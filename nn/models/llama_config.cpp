#include <nlohmann/json.hpp>

#include <filesystem>
#include <fstream>

#include <weft/core/base/check.hpp>
#include <weft/nn/models/llama.hpp>

namespace weft::inline v0::models {

namespace {

using nlohmann::json;

template <class T>
void read(const json& object, const char* key, T& value) {
  const auto found = object.find(key);
  if (found != object.end() && !found->is_null()) value = found->get<T>();
}

void read(const json& object, const char* key, std::optional<int64_t>& value) {
  const auto found = object.find(key);
  if (found != object.end() && !found->is_null()) value = found->get<int64_t>();
}

[[noreturn]] void fail(const std::string& file, const std::string& text) {
  throw FormatError("E_CONFIG", fmt::format("{}: {}", file, text));
}

/// "rope_parameters" of newer files has all of it; older ones have "rope_theta" at the top and
/// "rope_scaling".
void read_rope(const std::string& file, const json& root, LlamaConfig& config) {
  read(root, "rope_theta", config.rope_theta);
  config.rope_scaling.original_max_position_embeddings = config.max_position_embeddings;
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const auto found = root.find(key);
    if (found == root.end() || found->is_null()) continue;
    read(*found, "rope_theta", config.rope_theta);
    std::string type = "default";
    read(*found, "type", type);
    read(*found, "rope_type", type);
    RopeScaling& s = config.rope_scaling;
    s.type = type == "llama3"   ? RopeScaling::Type::llama3
             : type == "linear" ? RopeScaling::Type::linear
                                : RopeScaling::Type::none;
    if (s.type == RopeScaling::Type::none && type != "default")
      fail(file,
           fmt::format("rope type \"{}\" is not known; known are default, linear, llama3", type));
    read(*found, "factor", s.factor);
    read(*found, "low_freq_factor", s.low_freq_factor);
    read(*found, "high_freq_factor", s.high_freq_factor);
    read(*found, "original_max_position_embeddings", s.original_max_position_embeddings);
  }
}

LlamaConfig read_config(const std::string& file, const json& root) {
  std::string type = "llama", activation = "silu";
  read(root, "model_type", type);
  if (type != "llama") fail(file, fmt::format("model_type is \"{}\", not \"llama\"", type));
  read(root, "hidden_act", activation);
  if (activation != "silu")
    fail(file, fmt::format("hidden_act is \"{}\"; Llama has \"silu\"", activation));
  LlamaConfig c;
  read(root, "vocab_size", c.vocab_size);
  read(root, "hidden_size", c.hidden_size);
  read(root, "intermediate_size", c.intermediate_size);
  read(root, "num_hidden_layers", c.num_hidden_layers);
  read(root, "num_attention_heads", c.num_attention_heads);
  read(root, "num_key_value_heads", c.num_key_value_heads);
  read(root, "head_dim", c.head_dim);
  read(root, "max_position_embeddings", c.max_position_embeddings);
  read(root, "rms_norm_eps", c.rms_norm_eps);
  read(root, "initializer_range", c.initializer_range);
  read(root, "tie_word_embeddings", c.tie_word_embeddings);
  read(root, "attention_bias", c.attention_bias);
  read(root, "mlp_bias", c.mlp_bias);
  read_rope(file, root, c);
  return c;
}

}  // namespace

LlamaConfig LlamaConfig::from_pretrained(const std::string& path) {
  const bool folder = std::filesystem::is_directory(path);
  const std::string file = folder ? (std::filesystem::path(path) / "config.json").string() : path;
  std::ifstream stream(file);
  WEFT_CHECK(IoError, stream.good(), "{}: cannot be read", file);
  try {
    const LlamaConfig config = read_config(file, json::parse(stream));
    config.check();
    return config;
  } catch (const json::exception& error) {
    fail(file, error.what());
  }
}

}  // namespace weft::inline v0::models
