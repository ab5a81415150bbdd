// Rows of matrix products, convolution, pooling and attention.
#include <weft/core/ops.hpp>
#include <weft/tests/support/op_rows.hpp>

namespace weft::test {

namespace {

using Args = const OpArgs&;
using In = const std::vector<Tensor>&;
using Out = std::vector<Tensor>;

Pair pair_of(Args a, const char* name, int64_t otherwise) {
  const std::vector<int64_t> list = a.list(name);
  if (list.empty()) return otherwise;
  return list.size() == 1 ? Pair(list[0]) : Pair(list[0], list[1]);
}
Tensor optional(In x, size_t i) { return i < x.size() ? x[i] : Tensor(); }

Conv2dOptions convolution(Args a) {
  return {.stride = pair_of(a, "stride", 1),
          .padding = pair_of(a, "padding", 0),
          .dilation = pair_of(a, "dilation", 1),
          .groups = a.whole("groups", 1)};
}
Pool2dOptions pool(Args a) {
  Pool2dOptions options = {.kernel_size = pair_of(a, "kernel_size", 1),
                           .padding = pair_of(a, "padding", 0),
                           .dilation = pair_of(a, "dilation", 1),
                           .ceil_mode = a.flag("ceil_mode"),
                           .count_include_pad = a.flag("count_include_pad", true)};
  if (a.has("stride")) options.stride = pair_of(a, "stride", 1);
  return options;
}
Out attention(Args a, In x) {
  return {scaled_dot_product_attention(
      x[0], x[1], x[2], {.is_causal = a.flag("is_causal"), .scale = a.maybe_real("scale")})};
}
Out masked_attention(Args, In x) {
  return {scaled_dot_product_attention(x[0], x[1], x[2], {.attn_mask = x[3]})};
}
Out grouped_attention(Args a, In x) {
  return {scaled_dot_product_attention(x[0], x[1], x[2],
                                       {.is_causal = a.flag("is_causal"), .enable_gqa = true})};
}

}  // namespace

void add_network_rows(std::vector<OpRow>& rows) {
  rows.push_back(
      {.name = "matmul", .call = [](Args, In x) -> Out { return {matmul(x[0], x[1])}; }});
  rows.push_back({.name = "outer", .call = [](Args, In x) -> Out { return {outer(x[0], x[1])}; }});
  rows.push_back({.name = "linear",
                  .call = [](Args, In x) -> Out { return {linear(x[0], x[1], optional(x, 2))}; }});
  rows.push_back({.name = "addmm", .call = [](Args a, In x) -> Out {
                    return {addmm(x[0], x[1], x[2], a.real("beta", 1.0), a.real("alpha", 1.0))};
                  }});
  rows.push_back({.name = "conv2d", .call = [](Args a, In x) -> Out {
                    return {conv2d(x[0], x[1], optional(x, 2), convolution(a))};
                  }});
  rows.push_back({.name = "max_pool2d",
                  .call = [](Args a, In x) -> Out { return {max_pool2d(x[0], pool(a))}; }});
  rows.push_back({.name = "avg_pool2d",
                  .call = [](Args a, In x) -> Out { return {avg_pool2d(x[0], pool(a))}; }});
  rows.push_back({.name = "scaled_dot_product_attention", .call = attention});
  rows.push_back({.name = "scaled_dot_product_attention_mask", .call = masked_attention});
  rows.push_back({.name = "scaled_dot_product_attention_gqa", .call = grouped_attention});
}

}  // namespace weft::test
