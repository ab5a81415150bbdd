// Cases of ops.safetensors (tests/goldens/README.md), and running the op rows on them.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <weft/core/io/safetensors.hpp>
#include <weft/core/tensor.hpp>
#include <weft/tests/support/op_rows.hpp>

namespace weft::test {

/// WEFT_GOLDENS, or the folder in the source tree.
std::string golden_folder();

/// The names are keys of the file; "" where there is no tensor.
struct GoldenCase {
  std::string id;
  std::string op;
  OpArgs args;
  std::vector<std::string> inputs, outputs, cotangents, grads;
};

class GoldenOps {
 public:
  explicit GoldenOps(const std::string& path);

  const std::vector<GoldenCase>& cases() const { return cases_; }
  /// Adds a case of random inputs for a row that the file has no case of. It has no expected
  /// outputs: what does not need them (meta, empty inputs, layouts, differences) runs on it.
  void add_example(const OpRow& row);
  /// An undefined tensor for "".
  Tensor tensor(const std::string& name) const;
  std::vector<Tensor> tensors(const std::vector<std::string>& names) const;

 private:
  io::SafetensorsFile file_;
  std::vector<GoldenCase> cases_;
  std::map<std::string, Tensor> examples_;
};

/// How inputs lie in memory: packed; last two dims swapped; every second element of a bigger one.
enum class Form { packed, transposed, stepped };
/// The same values in another form.
Tensor in_form(const Tensor& x, Form form);

struct RunOptions {
  Device device = Device::cpu();
  Form form = Form::packed;
};

/// Runs a case forward and, where it has cotangents, backward, and compares. Returns what is wrong,
/// one entry per tensor; errors thrown are entries too.
std::vector<std::string> run_case(const GoldenOps& goldens, const GoldenCase& golden,
                                  const OpRow& row, const RunOptions& options = {});

/// Empty where `got` is `want` within `bound` of the largest value of `want`; else the difference.
std::string compare(const Tensor& got, const Tensor& want, double bound);

/// Vector-Jacobian products by autograd: one per input, undefined where `wanted` is false.
std::vector<Tensor> products(const std::vector<Tensor>& outputs, const std::vector<Tensor>& inputs,
                             const std::vector<Tensor>& cotangents);

struct GoldenReport {
  int cases = 0;  ///< that ran
  std::set<std::string> names_run, names;
  std::vector<std::string> failures;  ///< "add.1: grad 0: …"
  std::set<std::string> failed_cases;
  /// "golden ops: 257 cases, 192 of 192 names, 0 failed"
  std::string line() const;
};

/// Runs every case that has a row. A name counts as run where all of its cases ran.
GoldenReport run_golden_ops(const std::string& path, const RunOptions& options = {});

}  // namespace weft::test
