// Llama: Touvron et al., LLaMA, 2023; Grattafiori et al., The Llama 3 Herd of Models, 2024. Keys
// are those of its published checkpoints.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <weft/nn/containers.hpp>
#include <weft/nn/layers.hpp>

namespace weft::inline v0::models {

/// How the angles of the position embedding are stretched for longer texts.
struct RopeScaling {
  enum class Type : uint8_t { none, linear, llama3 };
  Type type = Type::none;
  double factor = 1.0;
  double low_freq_factor = 1.0;                     ///< llama3
  double high_freq_factor = 4.0;                    ///< llama3
  int64_t original_max_position_embeddings = 8192;  ///< llama3
};

/// The entries of config.json, with its names and defaults.
struct WEFT_API LlamaConfig {
  int64_t vocab_size = 32000;
  int64_t hidden_size = 4096;
  int64_t intermediate_size = 11008;
  int64_t num_hidden_layers = 32;
  int64_t num_attention_heads = 32;
  std::optional<int64_t> num_key_value_heads = {};  ///< num_attention_heads unless given
  std::optional<int64_t> head_dim = {};             ///< hidden_size / num_attention_heads
  int64_t max_position_embeddings = 2048;
  double rms_norm_eps = 1e-6;
  double rope_theta = 10000.0;
  RopeScaling rope_scaling = {};
  double initializer_range = 0.02;
  bool tie_word_embeddings = false;
  bool attention_bias = false;
  bool mlp_bias = false;

  int64_t key_value_heads() const { return num_key_value_heads.value_or(num_attention_heads); }
  int64_t head_size() const { return head_dim.value_or(hidden_size / num_attention_heads); }

  /// Reads a config.json, or the one in a folder. Throws IoError where it cannot be read and
  /// FormatError (E_CONFIG) where it is no JSON, describes another model or asks for something that
  /// is not there.
  static LlamaConfig from_pretrained(const std::string& path);
  /// Throws ArgumentError for sizes that do not fit each other.
  void check() const;
};

/// Cosine and sine of each position's angles, [length, head size].
struct RopeTables {
  Tensor cos, sin;
};

/// Attention with rotary positions (Su et al., RoFormer, 2021; halves are rotated) and grouped
/// key-value heads (Ainslie et al., GQA, 2023).
class WEFT_API LlamaAttention : public nn::Layer<LlamaAttention> {
 public:
  nn::Linear q_proj, k_proj, v_proj, o_proj;
  LlamaAttention(const nn::At& at, const LlamaConfig& config);
  /// x [batch, length, hidden]; causal.
  Tensor forward(const Tensor& x, const RopeTables& rope) const;

 private:
  int64_t heads_, key_value_heads_, head_size_;
};

/// down(silu(gate(x)) * up(x)). Shazeer, GLU Variants Improve Transformer, 2020.
class WEFT_API LlamaMLP : public nn::Layer<LlamaMLP> {
 public:
  nn::Linear gate_proj, up_proj, down_proj;
  LlamaMLP(const nn::At& at, const LlamaConfig& config);
  Tensor forward(const Tensor& x) const;
};

class WEFT_API LlamaDecoderLayer : public nn::Layer<LlamaDecoderLayer> {
 public:
  LlamaAttention self_attn;
  LlamaMLP mlp;
  nn::RMSNorm input_layernorm, post_attention_layernorm;
  LlamaDecoderLayer(const nn::At& at, const LlamaConfig& config);
  Tensor forward(Tensor x, const RopeTables& rope) const;
};

/// Token numbers [batch, length] (i64) to hidden states [batch, length, hidden].
class WEFT_API LlamaModel : public nn::Layer<LlamaModel> {
 public:
  nn::Embedding embed_tokens;
  nn::List<LlamaDecoderLayer> layers;
  nn::RMSNorm norm;
  nn::Buffer inv_freq;  ///< [head size / 2], f32, not saved
  LlamaModel(const nn::At& at, const LlamaConfig& config);
  Tensor forward(const Tensor& input_ids);
  RopeTables rope_tables(int64_t length, DType dtype) const;
};

/// The language model: token numbers [batch, length] (i64) to logits [batch, length, vocabulary].
///
///     models::Llama empty(nn::Place{Device::meta(), DType::bf16}, config);   // no memory
class WEFT_API Llama : public nn::Layer<Llama> {
 public:
  LlamaModel model;
  nn::Linear lm_head;
  /// Throws as LlamaConfig::check.
  Llama(const nn::At& at, const LlamaConfig& config);
  Tensor forward(const Tensor& input_ids);
  const LlamaConfig& config() const { return config_; }

 private:
  LlamaConfig config_;
};

/// For hooks that move or replace a call's tensors.
template <class F>
void visit_tensors(RopeTables& tables, F&& visit) {
  visit(tables.cos);
  visit(tables.sin);
}

}  // namespace weft::inline v0::models
