#include <fmt/format.h>

#include <algorithm>
#include <set>

#include <weft/nn/module.hpp>
#include <weft/nn/param.hpp>

namespace weft::inline v0::nn {

namespace {

using Row = std::array<std::string, 5>;

/// 1234567 -> "1,234,567"
std::string grouped(int64_t number) {
  std::string text = std::to_string(number);
  for (auto i = static_cast<int64_t>(text.size()) - 3; i > 0; i -= 3)
    text.insert(static_cast<size_t>(i), ",");
  return text;
}

std::string table(const std::vector<Row>& rows) {
  std::array<size_t, 5> widths = {};
  for (const Row& row : rows)
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  std::string text;
  for (const Row& row : rows) {
    std::string line =
        fmt::format("{:<{}}  {:<{}}  {:<{}}  {:>{}}  {:>{}}", row[0], widths[0], row[1], widths[1],
                    row[2], widths[2], row[3], widths[3], row[4], widths[4]);
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

}  // namespace

std::string Module::summary() const {
  std::vector<Row> rows = {{"name", "type", "shape", "parameters", "bytes"}};
  std::set<const TensorImpl*> seen;
  int64_t parameters = 0, trainable = 0, bytes = 0;
  for (const auto& [path, module] : const_cast<Module*>(this)->named_modules()) {
    std::string shapes;
    int64_t own = 0, own_bytes = 0;
    for (const Param* p : module->own_parameters()) {
      shapes += (shapes.empty() ? "" : ", ") + p->name() + " " + to_string(p->shape());
      if (!seen.insert(p->impl()).second) {
        shapes += " (tied)";
        continue;
      }
      own += p->numel();
      own_bytes += p->nbytes();
      if (p->requires_grad()) trainable += p->numel();
    }
    parameters += own;
    bytes += own_bytes;
    const bool none = module->own_parameters().empty();
    rows.push_back({path.empty() ? "(root)" : path, module->type_name(), shapes,
                    none ? "" : grouped(own), none ? "" : grouped(own_bytes)});
  }
  return table(rows) + fmt::format("total: {} parameters, {} of them trained, {} bytes\n",
                                   grouped(parameters), grouped(trainable), grouped(bytes));
}

}  // namespace weft::inline v0::nn
