#include <weft/nn/models/llama.hpp>

#include <cmath>
#include <vector>

#include <weft/core/base/check.hpp>
#include <weft/core/ops.hpp>

namespace weft::inline v0::models {

void LlamaConfig::check() const {
  WEFT_CHECK(ArgumentError, num_attention_heads >= 1 && key_value_heads() >= 1,
             "Llama: {} attention heads and {} key-value heads; at least 1 of each",
             num_attention_heads, key_value_heads());
  WEFT_CHECK(ArgumentError, num_attention_heads % key_value_heads() == 0,
             "Llama: {} attention heads cannot share {} key-value heads evenly",
             num_attention_heads, key_value_heads());
  WEFT_CHECK(ArgumentError, head_dim.has_value() || hidden_size % num_attention_heads == 0,
             "Llama: hidden_size {} does not divide into {} heads; give head_dim", hidden_size,
             num_attention_heads);
  WEFT_CHECK(ArgumentError, head_size() % 2 == 0,
             "Llama: heads of {} cannot be rotated in halves; the size must be even", head_size());
}

LlamaAttention::LlamaAttention(const nn::At& at, const LlamaConfig& c)
    : Layer(at),
      q_proj(sub("q_proj"), c.hidden_size, c.num_attention_heads * c.head_size(),
             {.bias = c.attention_bias}),
      k_proj(sub("k_proj"), c.hidden_size, c.key_value_heads() * c.head_size(),
             {.bias = c.attention_bias}),
      v_proj(sub("v_proj"), c.hidden_size, c.key_value_heads() * c.head_size(),
             {.bias = c.attention_bias}),
      o_proj(sub("o_proj"), c.num_attention_heads * c.head_size(), c.hidden_size,
             {.bias = c.attention_bias}),
      heads_(c.num_attention_heads),
      key_value_heads_(c.key_value_heads()),
      head_size_(c.head_size()) {}

namespace {

/// x [.., length, size]: each pair (x[i], x[i + size / 2]) turned by its angle.
Tensor rotate(const Tensor& x, const RopeTables& rope) {
  const int64_t half = x.size(-1) / 2;
  const Tensor turned = cat({neg(x.slice(-1, half, 2 * half)), x.slice(-1, 0, half)}, -1);
  return x * rope.cos + turned * rope.sin;
}

}  // namespace

Tensor LlamaAttention::forward(const Tensor& x, const RopeTables& rope) const {
  const int64_t batch = x.size(0), length = x.size(1);
  const auto split_heads = [&](const Tensor& t, int64_t heads) {
    return t.view({batch, length, heads, head_size_}).transpose(1, 2);
  };
  const Tensor q = rotate(split_heads(q_proj(x), heads_), rope);
  const Tensor k = rotate(split_heads(k_proj(x), key_value_heads_), rope);
  const Tensor v = split_heads(v_proj(x), key_value_heads_);
  const Tensor mixed = scaled_dot_product_attention(
      q, k, v, {.is_causal = true, .enable_gqa = heads_ != key_value_heads_});
  return o_proj(mixed.transpose(1, 2).reshape({batch, length, heads_ * head_size_}));
}

LlamaMLP::LlamaMLP(const nn::At& at, const LlamaConfig& c)
    : Layer(at),
      gate_proj(sub("gate_proj"), c.hidden_size, c.intermediate_size, {.bias = c.mlp_bias}),
      up_proj(sub("up_proj"), c.hidden_size, c.intermediate_size, {.bias = c.mlp_bias}),
      down_proj(sub("down_proj"), c.intermediate_size, c.hidden_size, {.bias = c.mlp_bias}) {}

Tensor LlamaMLP::forward(const Tensor& x) const {
  return down_proj(silu(gate_proj(x)) * up_proj(x));
}

LlamaDecoderLayer::LlamaDecoderLayer(const nn::At& at, const LlamaConfig& c)
    : Layer(at),
      self_attn(sub("self_attn"), c),
      mlp(sub("mlp"), c),
      input_layernorm(sub("input_layernorm"), c.hidden_size, {.eps = c.rms_norm_eps}),
      post_attention_layernorm(sub("post_attention_layernorm"), c.hidden_size,
                               {.eps = c.rms_norm_eps}) {}

Tensor LlamaDecoderLayer::forward(Tensor x, const RopeTables& rope) const {
  x = x + self_attn(input_layernorm(x), rope);
  return x + mlp(post_attention_layernorm(x));
}

namespace {

/// The angle of each pair of a head from one position to the next.
std::vector<float> frequencies(const LlamaConfig& c) {
  const RopeScaling& s = c.rope_scaling;
  const int64_t half = c.head_size() / 2;
  std::vector<float> values;
  for (int64_t i = 0; i < half; ++i) {
    double f = std::pow(c.rope_theta, -static_cast<double>(i) / static_cast<double>(half));
    if (s.type == RopeScaling::Type::linear) f /= s.factor;
    if (s.type == RopeScaling::Type::llama3) {
      // Long waves are stretched by the factor, short ones kept, those between blended.
      constexpr double kTurn = 6.28318530717958647692;
      const double turns = static_cast<double>(s.original_max_position_embeddings) * f / kTurn;
      const double part = (turns - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor);
      const double kept = part < 0 ? 0 : part > 1 ? 1 : part;
      f = (1 - kept) * f / s.factor + kept * f;
    }
    values.push_back(static_cast<float>(f));
  }
  return values;
}

nn::Buffer::Recipe frequency_recipe(const LlamaConfig& c) {
  return [values = frequencies(c)](nn::Place place) {
    const Shape shape = {static_cast<int64_t>(values.size())};
    if (place.device.is_meta()) return empty(shape, {.device = place.device});
    return from_host(values.data(), shape, DType::f32, place.device);
  };
}

}  // namespace

LlamaModel::LlamaModel(const nn::At& at, const LlamaConfig& c)
    : Layer(at),
      embed_tokens(sub("embed_tokens"), c.vocab_size, c.hidden_size),
      layers(sub("layers"), c.num_hidden_layers, c),
      norm(sub("norm"), c.hidden_size, {.eps = c.rms_norm_eps}),
      inv_freq(sub("inv_freq"), frequency_recipe(c), {.persistent = false, .keep_dtype = true}) {}

RopeTables LlamaModel::rope_tables(int64_t length, DType dtype) const {
  const Tensor positions = arange(0, length, 1, {.dtype = DType::f32, .device = inv_freq.device()});
  const Tensor angles = positions.unsqueeze(1) * inv_freq.unsqueeze(0);
  const Tensor both = cat({angles, angles}, -1);
  return {cos(both).to(dtype), sin(both).to(dtype)};
}

Tensor LlamaModel::forward(const Tensor& input_ids) {
  WEFT_CHECK(ArgumentError, input_ids.dim() == 2,
             "Llama: input_ids need the shape [batch, length], got {}",
             to_string(input_ids.shape()));
  Tensor x = embed_tokens(input_ids);
  const RopeTables rope = rope_tables(input_ids.size(1), x.dtype());
  for (LlamaDecoderLayer& layer : layers) x = layer(x, rope);
  return norm(x);
}

namespace {

const LlamaConfig& checked(const LlamaConfig& config) {
  config.check();
  return config;
}

}  // namespace

Llama::Llama(const nn::At& at, const LlamaConfig& config)
    : Layer(at),
      model(sub("model"), checked(config)),
      lm_head(sub("lm_head"), config.hidden_size, config.vocab_size, {.bias = false}),
      config_(config) {
  if (config.tie_word_embeddings) lm_head.weight = model.embed_tokens.weight;
  // Matrices start from normal(0, initializer_range), biases from 0; norms keep their ones.
  apply([&](nn::Module& module) {
    for (nn::Param* p : module.own_parameters())
      if (p->dim() == 2)
        p->reset(nn::Init::normal(0, config.initializer_range));
      else if (p->name() == "bias")
        p->reset(nn::Init::zeros());
  });
}

Tensor Llama::forward(const Tensor& input_ids) { return lm_head(model(input_ids)); }

}  // namespace weft::inline v0::models
