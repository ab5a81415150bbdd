#include <weft/tests/support/op_rows.hpp>

#include <nlohmann/json.hpp>

namespace weft::test {

namespace {

const nlohmann::json* find(const nlohmann::json& values, const char* name) {
  const auto found = values.find(name);
  return found == values.end() || found->is_null() ? nullptr : &*found;
}

template <class T>
std::vector<T> list_of(const nlohmann::json& values, const char* name) {
  const nlohmann::json* const value = find(values, name);
  if (value == nullptr) return {};
  if (value->is_array()) return value->get<std::vector<T>>();
  return {value->get<T>()};
}

}  // namespace

struct OpArgs::Values {
  nlohmann::json json;
};

OpArgs::OpArgs(const std::string& json)
    : values_(std::make_shared<const Values>(Values{nlohmann::json::parse(json)})) {}

bool OpArgs::has(const char* name) const { return find(values_->json, name) != nullptr; }
double OpArgs::real(const char* name, double otherwise) const {
  return has(name) ? values_->json.at(name).get<double>() : otherwise;
}
int64_t OpArgs::whole(const char* name, int64_t otherwise) const {
  return has(name) ? values_->json.at(name).get<int64_t>() : otherwise;
}
bool OpArgs::flag(const char* name, bool otherwise) const {
  return has(name) ? values_->json.at(name).get<bool>() : otherwise;
}
std::string OpArgs::text(const char* name, const std::string& otherwise) const {
  return has(name) ? values_->json.at(name).get<std::string>() : otherwise;
}
std::vector<int64_t> OpArgs::list(const char* name) const {
  return list_of<int64_t>(values_->json, name);
}
std::vector<double> OpArgs::reals(const char* name) const {
  return list_of<double>(values_->json, name);
}
std::optional<double> OpArgs::maybe_real(const char* name) const {
  return has(name) ? std::optional<double>(real(name)) : std::nullopt;
}

const std::vector<OpRow>& op_rows() {
  static const std::vector<OpRow> rows = [] {
    std::vector<OpRow> all;
    add_pointwise_rows(all);
    add_shape_rows(all);
    add_reduction_rows(all);
    add_network_rows(all);
    add_training_rows(all);
    for (const char* name :
         {"cross_entropy", "cross_entropy_weighted", "nll_loss", "embedding", "one_hot",
          "index_select", "gather", "scatter", "scatter_add", "index_add"})
      for (OpRow& row : all)
        if (row.name == name) row.checks_values = true;
    for (OpRow& row : all)  // the padding row gets no gradient
      if (row.name == "embedding")
        row.custom_gradient = [](const OpArgs& args) { return args.has("padding_idx"); };
    return all;
  }();
  return rows;
}

const OpRow* find_op_row(const std::string& name) {
  for (const OpRow& row : op_rows())
    if (row.name == name) return &row;
  return nullptr;
}

}  // namespace weft::test
