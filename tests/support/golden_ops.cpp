#include <weft/tests/support/golden_ops.hpp>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include <nlohmann/json.hpp>

#include <weft/autograd/autograd.hpp>
#include <weft/core/base/error.hpp>
#include <weft/core/ops.hpp>

namespace weft::test {

std::string golden_folder() {
  const char* const folder = std::getenv("WEFT_GOLDENS");
  return folder != nullptr && *folder != '\0' ? folder : WEFT_SOURCE_ROOT "/tests/goldens";
}

GoldenOps::GoldenOps(const std::string& path) : file_(path, {.map = false}) {
  const auto list = nlohmann::json::parse(file_.metadata().at("cases"));
  const auto names = [](const nlohmann::json& value) {
    return value.get<std::vector<std::string>>();
  };
  for (const auto& entry : list)
    cases_.push_back({entry.at("id").get<std::string>(), entry.at("op").get<std::string>(),
                      OpArgs(entry.at("args").dump()), names(entry.at("inputs")),
                      names(entry.at("outputs")), names(entry.at("cotangents")),
                      names(entry.at("grads"))});
}

Tensor GoldenOps::tensor(const std::string& name) const {
  if (name.empty()) return Tensor();
  const auto example = examples_.find(name);
  return example != examples_.end() ? example->second : file_.tensor(name);
}

void GoldenOps::add_example(const OpRow& row) {
  GoldenCase added{row.name + ".example", row.name, OpArgs("{}"), {}, {}, {}, {}};
  const auto keep = [&](const char* what, size_t i, Tensor value) {
    const std::string name = added.id + "." + what + std::to_string(i);
    examples_[name] = std::move(value);
    return name;
  };
  std::vector<Tensor> inputs;
  for (const Shape& shape : row.example) {
    inputs.push_back(randn(shape));
    added.inputs.push_back(keep("input", inputs.size(), inputs.back()));
    added.grads.push_back(added.inputs.back());
  }
  for (const Tensor& output : row.call(added.args, inputs))
    added.cotangents.push_back(
        output.is_floating_point()
            ? keep("cotangent", added.cotangents.size(), randn(output.shape()))
            : "");
  cases_.push_back(std::move(added));
}

std::vector<Tensor> GoldenOps::tensors(const std::vector<std::string>& names) const {
  std::vector<Tensor> all;
  for (const std::string& name : names) all.push_back(tensor(name));
  return all;
}

Tensor in_form(const Tensor& x, Form form) {
  if (form == Form::packed || x.numel() == 0) return x;
  if (form == Form::transposed)
    return x.dim() < 2 ? x : x.transpose(-1, -2).contiguous().transpose(-1, -2);
  // Elements 1, 3, 5 … of a buffer with something else between them.
  const Tensor flat = x.dim() == 0 ? x.reshape({1}) : x;
  Shape wide = flat.shape();
  wide[wide.rank() - 1] *= 2;
  const Tensor buffer = ones(wide, {.dtype = x.dtype(), .device = x.device()});
  Tensor part = buffer.slice(-1, 1, wide.back(), 2);
  part.copy_(flat);
  return x.dim() == 0 ? part.select(0, 0) : part;
}

namespace {

/// One unit of rounding for dtypes that are coarser than the bound.
double rounding(DType dtype) {
  return dtype == DType::bf16 ? 0x1p-8 : dtype == DType::f16 ? 0x1p-11 : 0.0;
}

std::string values_differ(const Tensor& got, const Tensor& want, double bound) {
  const std::vector<double> a = got.to_vector<double>(), b = want.to_vector<double>();
  double largest = 0;
  for (const double value : b)
    if (std::isfinite(value)) largest = std::max(largest, std::abs(value));
  const bool real = is_floating(want.dtype());
  const double allowed = real ? std::max(bound, rounding(want.dtype())) * largest : 0.0;
  size_t worst = a.size();
  double difference = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i]))) continue;
    const double gap = std::isfinite(a[i] - b[i]) ? std::abs(a[i] - b[i]) : INFINITY;
    if (gap > allowed && gap > difference) {
      difference = gap;
      worst = i;
    }
  }
  if (worst == a.size()) return "";
  return "element " + std::to_string(worst) + " is " + std::to_string(a[worst]) + ", not " +
         std::to_string(b[worst]) + ": off by " + std::to_string(difference / largest * 1e6) +
         "e-6 of the largest value";
}

}  // namespace

std::string compare(const Tensor& got, const Tensor& want, double bound) {
  if (!got.defined()) return "there is none";
  if (got.dtype() != want.dtype())
    return "dtype " + std::string(name_of(got.dtype())) + ", not " +
           std::string(name_of(want.dtype()));
  if (got.shape() != want.shape())
    return "shape " + to_string(got.shape()) + ", not " + to_string(want.shape());
  return values_differ(got, want, bound);
}

std::vector<Tensor> products(const std::vector<Tensor>& outputs, const std::vector<Tensor>& inputs,
                             const std::vector<Tensor>& cotangents) {
  std::vector<Tensor> from, with, to;
  for (size_t i = 0; i < outputs.size(); ++i)
    if (i < cotangents.size() && cotangents[i].defined()) {
      from.push_back(outputs[i]);
      with.push_back(cotangents[i]);
    }
  for (const Tensor& input : inputs)
    if (input.requires_grad()) to.push_back(input);
  const std::vector<Tensor> found = grad(from, to, {.grad_outputs = with, .allow_unused = true});
  std::vector<Tensor> all;
  size_t next = 0;
  for (const Tensor& input : inputs)
    all.push_back(input.requires_grad() ? found[next++] : Tensor());
  return all;
}

namespace {

std::vector<std::string> run_checked(const GoldenOps& goldens, const GoldenCase& golden,
                                     const OpRow& row, const RunOptions& options) {
  std::vector<Tensor> inputs = goldens.tensors(golden.inputs);
  for (size_t i = 0; i < inputs.size(); ++i) {
    inputs[i] = in_form(inputs[i].to(options.device), options.form);
    if (i < golden.grads.size() && !golden.grads[i].empty()) inputs[i].requires_grad_();
  }
  const std::vector<Tensor> outputs = row.call(golden.args, inputs);
  std::vector<std::string> problems;
  const auto note = [&](const char* what, size_t i, const std::string& problem) {
    if (!problem.empty()) problems.push_back(what + std::to_string(i) + ": " + problem);
  };
  if (outputs.size() != golden.outputs.size())
    return {std::to_string(outputs.size()) + " outputs, not " +
            std::to_string(golden.outputs.size())};
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (!(outputs[i].device() == options.device) && row.kind == OpKind::plain)
      note("output ", i, "is on " + to_string(outputs[i].device()));
    note("output ", i, compare(outputs[i], goldens.tensor(golden.outputs[i]), row.bound));
  }
  if (golden.grads.empty()) return problems;
  std::vector<Tensor> cotangents = goldens.tensors(golden.cotangents);
  for (Tensor& cotangent : cotangents)
    if (cotangent.defined()) cotangent = cotangent.to(options.device);
  const std::vector<Tensor> found = products(outputs, inputs, cotangents);
  for (size_t i = 0; i < golden.grads.size(); ++i)
    if (!golden.grads[i].empty())
      note("grad ", i, compare(found[i], goldens.tensor(golden.grads[i]), row.bound));
  return problems;
}

}  // namespace

std::vector<std::string> run_case(const GoldenOps& goldens, const GoldenCase& golden,
                                  const OpRow& row, const RunOptions& options) {
  try {
    return run_checked(goldens, golden, row, options);
  } catch (const Error& error) {
    return {std::string("threw: ") + error.what()};
  }
}

std::string GoldenReport::line() const {
  return "golden ops: " + std::to_string(cases) + " cases, " + std::to_string(names_run.size()) +
         " of " + std::to_string(names.size()) + " names, " + std::to_string(failed_cases.size()) +
         " failed";
}

GoldenReport run_golden_ops(const std::string& path, const RunOptions& options) {
  const GoldenOps goldens(path);
  GoldenReport report;
  std::set<std::string> incomplete;
  for (const GoldenCase& golden : goldens.cases()) {
    report.names.insert(golden.op);
    const OpRow* const row = find_op_row(golden.op);
    if (row == nullptr || (row->handles != nullptr && !row->handles(golden.args))) {
      incomplete.insert(golden.op);
      continue;
    }
    ++report.cases;
    report.names_run.insert(golden.op);
    for (const std::string& problem : run_case(goldens, golden, *row, options)) {
      report.failed_cases.insert(golden.id);
      report.failures.push_back(golden.id + ": " + problem);
    }
  }
  for (const std::string& name : incomplete) report.names_run.erase(name);
  return report;
}

}  // namespace weft::test
