// Rows of reductions, softmax, norms and losses.
#include <weft/core/ops.hpp>
#include <weft/tests/support/op_rows.hpp>

namespace weft::test {

namespace {

using Args = const OpArgs&;
using In = const std::vector<Tensor>&;
using Out = std::vector<Tensor>;

ReduceOptions reduce(Args a) { return {.dim = Dims(a.list("dim")), .keepdim = a.flag("keepdim")}; }
VarOptions variance(Args a) {
  return {.dim = Dims(a.list("dim")),
          .correction = a.real("correction", 1.0),
          .keepdim = a.flag("keepdim")};
}
std::optional<int64_t> dim_of(Args a) {
  return a.has("dim") ? std::optional<int64_t>(a.whole("dim")) : std::nullopt;
}
Out both(std::pair<Tensor, Tensor> values) { return {values.first, values.second}; }

Reduction reduction_of(Args a) {
  const std::string name = a.text("reduction", "mean");
  return name == "none"        ? Reduction::none
         : name == "sum"       ? Reduction::sum
         : name == "batchmean" ? Reduction::batchmean
                               : Reduction::mean;
}
LossOptions loss(Args a) {
  return {.reduction = reduction_of(a), .delta = a.real("delta", a.real("beta", 1.0))};
}
CrossEntropyOptions classes(Args a) {
  return {.ignore_index = a.whole("ignore_index", -100),
          .reduction = reduction_of(a),
          .label_smoothing = a.real("label_smoothing")};
}
Out weighted_cross_entropy(Args a, In x) {
  CrossEntropyOptions options = classes(a);
  options.weight = x[2];
  return {cross_entropy(x[0], x[1], options)};
}
Tensor optional(In x, size_t i) { return i < x.size() ? x[i] : Tensor(); }

}  // namespace

void add_reduction_rows(std::vector<OpRow>& rows) {
  rows.push_back(
      {.name = "sum", .call = [](Args a, In x) -> Out { return {sum(x[0], reduce(a))}; }});
  rows.push_back(
      {.name = "mean", .call = [](Args a, In x) -> Out { return {mean(x[0], reduce(a))}; }});
  rows.push_back(
      {.name = "amax", .call = [](Args a, In x) -> Out { return {amax(x[0], reduce(a))}; }});
  rows.push_back(
      {.name = "amin", .call = [](Args a, In x) -> Out { return {amin(x[0], reduce(a))}; }});
  rows.push_back(
      {.name = "prod", .call = [](Args a, In x) -> Out { return {prod(x[0], reduce(a))}; }});
  rows.push_back(
      {.name = "all", .call = [](Args a, In x) -> Out { return {all(x[0], reduce(a))}; }});
  rows.push_back(
      {.name = "any", .call = [](Args a, In x) -> Out { return {any(x[0], reduce(a))}; }});
  rows.push_back({.name = "logsumexp",
                  .call = [](Args a, In x) -> Out { return {logsumexp(x[0], reduce(a))}; }});
  rows.push_back(
      {.name = "var", .call = [](Args a, In x) -> Out { return {var(x[0], variance(a))}; }});
  rows.push_back(
      {.name = "std", .call = [](Args a, In x) -> Out { return {weft::std(x[0], variance(a))}; }});
  rows.push_back({.name = "norm", .call = [](Args a, In x) -> Out {
                    return {norm(x[0], a.real("p", 2.0), reduce(a))};
                  }});
  rows.push_back({.name = "max", .call = [](Args a, In x) -> Out {
                    return both(max(x[0], a.whole("dim"), a.flag("keepdim")));
                  }});
  rows.push_back({.name = "min", .call = [](Args a, In x) -> Out {
                    return both(min(x[0], a.whole("dim"), a.flag("keepdim")));
                  }});
  rows.push_back({.name = "argmax", .call = [](Args a, In x) -> Out {
                    return {argmax(x[0], dim_of(a), a.flag("keepdim"))};
                  }});
  rows.push_back({.name = "argmin", .call = [](Args a, In x) -> Out {
                    return {argmin(x[0], dim_of(a), a.flag("keepdim"))};
                  }});
  rows.push_back({.name = "cumsum",
                  .call = [](Args a, In x) -> Out { return {cumsum(x[0], a.whole("dim"))}; }});
  rows.push_back({.name = "softmax",
                  .call = [](Args a, In x) -> Out { return {softmax(x[0], a.whole("dim"))}; }});
  rows.push_back({.name = "log_softmax",
                  .call = [](Args a, In x) -> Out { return {log_softmax(x[0], a.whole("dim"))}; }});
  rows.push_back({.name = "layer_norm", .call = [](Args a, In x) -> Out {
                    return {layer_norm(x[0], a.list("normalized_shape"), optional(x, 1),
                                       optional(x, 2), a.real("eps", 1e-5))};
                  }});
  rows.push_back(
      {.name = "rms_norm", .call = [](Args a, In x) -> Out {
         return {rms_norm(x[0], a.list("normalized_shape"), optional(x, 1), a.maybe_real("eps"))};
       }});
  rows.push_back({.name = "group_norm", .call = [](Args a, In x) -> Out {
                    return {group_norm(x[0], a.whole("num_groups"), optional(x, 1), optional(x, 2),
                                       a.real("eps", 1e-5))};
                  }});
  rows.push_back({.name = "cross_entropy", .call = [](Args a, In x) -> Out {
                    return {cross_entropy(x[0], x[1], classes(a))};
                  }});
  rows.push_back({.name = "cross_entropy_soft", .call = [](Args a, In x) -> Out {
                    return {cross_entropy(x[0], x[1], classes(a))};
                  }});
  rows.push_back({.name = "nll_loss",
                  .call = [](Args a, In x) -> Out { return {nll_loss(x[0], x[1], classes(a))}; }});
  rows.push_back({.name = "mse_loss",
                  .call = [](Args a, In x) -> Out { return {mse_loss(x[0], x[1], loss(a))}; }});
  rows.push_back({.name = "l1_loss",
                  .call = [](Args a, In x) -> Out { return {l1_loss(x[0], x[1], loss(a))}; }});
  rows.push_back({.name = "smooth_l1_loss", .call = [](Args a, In x) -> Out {
                    return {smooth_l1_loss(x[0], x[1], loss(a))};
                  }});
  rows.push_back({.name = "huber_loss",
                  .call = [](Args a, In x) -> Out { return {huber_loss(x[0], x[1], loss(a))}; }});
  rows.push_back({.name = "binary_cross_entropy", .call = [](Args a, In x) -> Out {
                    return {binary_cross_entropy(x[0], x[1], loss(a))};
                  }});
  rows.push_back({.name = "binary_cross_entropy_with_logits", .call = [](Args a, In x) -> Out {
                    return {binary_cross_entropy_with_logits(x[0], x[1], loss(a))};
                  }});
  rows.push_back({.name = "kl_div",
                  .call = [](Args a, In x) -> Out { return {kl_div(x[0], x[1], loss(a))}; }});
  rows.push_back({.name = "cosine_similarity", .call = [](Args a, In x) -> Out {
                    return {cosine_similarity(x[0], x[1], a.whole("dim", 1))};
                  }});
  rows.push_back({.name = "normalize", .call = [](Args a, In x) -> Out {
                    return {normalize(x[0], a.real("p", 2.0), a.whole("dim", 1))};
                  }});
  rows.push_back({.name = "cross_entropy_weighted", .call = weighted_cross_entropy});
}

}  // namespace weft::test
