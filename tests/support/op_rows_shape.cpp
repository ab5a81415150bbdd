// Rows of views, joining and indexing.
#include <weft/core/ops.hpp>
#include <weft/tests/support/op_rows.hpp>

namespace weft::test {

namespace {

using Args = const OpArgs&;
using In = const std::vector<Tensor>&;
using Out = std::vector<Tensor>;

bool pads_with_constant(Args a) { return a.text("mode", "constant") == "constant"; }

}  // namespace

void add_shape_rows(std::vector<OpRow>& rows) {
  rows.push_back({.name = "reshape",
                  .call = [](Args a, In x) -> Out { return {reshape(x[0], a.list("shape"))}; }});
  rows.push_back({.name = "permute",
                  .call = [](Args a, In x) -> Out { return {permute(x[0], a.list("dims"))}; }});
  rows.push_back({.name = "transpose", .call = [](Args a, In x) -> Out {
                    return {transpose(x[0], a.whole("dim0"), a.whole("dim1"))};
                  }});
  rows.push_back({.name = "squeeze",
                  .call = [](Args a, In x) -> Out { return {squeeze(x[0], a.whole("dim"))}; }});
  rows.push_back({.name = "unsqueeze",
                  .call = [](Args a, In x) -> Out { return {unsqueeze(x[0], a.whole("dim"))}; }});
  rows.push_back({.name = "expand",
                  .call = [](Args a, In x) -> Out { return {expand(x[0], a.list("shape"))}; }});
  rows.push_back({.name = "movedim", .call = [](Args a, In x) -> Out {
                    return {movedim(x[0], a.whole("source"), a.whole("destination"))};
                  }});
  rows.push_back({.name = "narrow", .call = [](Args a, In x) -> Out {
                    return {narrow(x[0], a.whole("dim"), a.whole("start"), a.whole("length"))};
                  }});
  rows.push_back({.name = "select", .call = [](Args a, In x) -> Out {
                    return {select(x[0], a.whole("dim"), a.whole("index"))};
                  }});
  rows.push_back(
      {.name = "slice", .call = [](Args a, In x) -> Out {
         return {slice(x[0], a.whole("dim"), a.whole("start"), a.whole("end"), a.whole("step", 1))};
       }});
  rows.push_back({.name = "split", .call = [](Args a, In x) -> Out {
                    return split(x[0], a.whole("split_size"), a.whole("dim"));
                  }});
  rows.push_back({.name = "chunk", .call = [](Args a, In x) -> Out {
                    return chunk(x[0], a.whole("chunks"), a.whole("dim"));
                  }});
  rows.push_back({.name = "diag", .call = [](Args a, In x) -> Out {
                    return {diagonal(x[0], a.whole("diagonal"))};
                  }});
  rows.push_back({.name = "diagonal",
                  .call = [](Args, In x) -> Out { return {diagonal(x[0], -1)}; },
                  .example = {{2, 4, 3}}});
  rows.push_back(
      {.name = "cat", .call = [](Args a, In x) -> Out { return {cat(x, a.whole("dim"))}; }});
  rows.push_back(
      {.name = "stack", .call = [](Args a, In x) -> Out { return {stack(x, a.whole("dim"))}; }});
  rows.push_back({.name = "repeat",
                  .call = [](Args a, In x) -> Out { return {repeat(x[0], a.list("repeats"))}; }});
  rows.push_back({.name = "repeat_interleave", .call = [](Args a, In x) -> Out {
                    return {repeat_interleave(x[0], a.whole("repeats"), a.whole("dim"))};
                  }});
  rows.push_back({.name = "index_select", .call = [](Args a, In x) -> Out {
                    return {index_select(x[0], a.whole("dim"), x[1])};
                  }});
  rows.push_back({.name = "gather", .call = [](Args a, In x) -> Out {
                    return {gather(x[0], a.whole("dim"), x[1])};
                  }});
  rows.push_back({.name = "scatter", .call = [](Args a, In x) -> Out {
                    return {scatter(x[0], a.whole("dim"), x[1], x[2])};
                  }});
  rows.push_back({.name = "scatter_add", .call = [](Args a, In x) -> Out {
                    return {scatter_add(x[0], a.whole("dim"), x[1], x[2])};
                  }});
  rows.push_back({.name = "index_add", .call = [](Args a, In x) -> Out {
                    return {index_add(x[0], a.whole("dim"), x[1], x[2])};
                  }});
  rows.push_back({.name = "embedding", .call = [](Args a, In x) -> Out {
                    return {embedding(x[0], x[1],
                                      a.has("padding_idx")
                                          ? std::optional<int64_t>(a.whole("padding_idx"))
                                          : std::nullopt)};
                  }});
  rows.push_back({.name = "one_hot", .call = [](Args a, In x) -> Out {
                    return {one_hot(x[0], a.whole("num_classes"))};
                  }});
  rows.push_back({.name = "tril",
                  .call = [](Args a, In x) -> Out { return {tril(x[0], a.whole("diagonal"))}; }});
  rows.push_back({.name = "triu",
                  .call = [](Args a, In x) -> Out { return {triu(x[0], a.whole("diagonal"))}; }});
  rows.push_back(
      {.name = "flip", .call = [](Args a, In x) -> Out { return {flip(x[0], a.list("dims"))}; }});
  rows.push_back({.name = "roll", .call = [](Args a, In x) -> Out {
                    return {roll(x[0], a.whole("shifts"), a.whole("dims"))};
                  }});
  rows.push_back(
      {.name = "pad",
       .call = [](Args a, In x) -> Out { return {pad(x[0], a.list("pad"), a.real("value"))}; },
       .handles = pads_with_constant});
}

}  // namespace weft::test
