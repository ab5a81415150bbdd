// One row per operator, called by PyTorch's names and arguments. The rows drive the golden values,
// strided, zero-size, meta and sim inputs and gradcheck.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <weft/core/tensor.hpp>

namespace weft::test {

/// Keyword arguments as JSON; absent ones (null counts as absent) give the default.
class OpArgs {
 public:
  explicit OpArgs(const std::string& json);

  bool has(const char* name) const;
  double real(const char* name, double otherwise = 0) const;
  int64_t whole(const char* name, int64_t otherwise = 0) const;
  bool flag(const char* name, bool otherwise = false) const;
  std::string text(const char* name, const std::string& otherwise = "") const;
  /// A list; one number counts as a list of one.
  std::vector<int64_t> list(const char* name) const;
  std::vector<double> reals(const char* name) const;
  std::optional<double> maybe_real(const char* name) const;

 private:
  struct Values;
  std::shared_ptr<const Values> values_;
};

using OpCall = std::vector<Tensor> (*)(const OpArgs& args, const std::vector<Tensor>& inputs);

enum class OpKind : uint8_t {
  plain,      ///< a function of its inputs
  optimizer,  ///< inputs: parameter and gradients; outputs: the parameter after each step
  schedule,   ///< no inputs; the output is a list of rates
};

struct OpRow {
  std::string name = {};
  OpCall call = nullptr;
  OpKind kind = OpKind::plain;
  /// Largest difference, relative to the largest value of the tensor (f32).
  double bound = 1e-5;
  /// Why `bound` is above 1e-5; empty otherwise.
  std::string reason = {};
  /// Cases it is for; the others are passed over. Null: all.
  bool (*handles)(const OpArgs& args) = nullptr;
  /// Cases whose gradient is not the derivative, by definition; differences are not taken there.
  bool (*custom_gradient)(const OpArgs& args) = nullptr;
  /// Its errors depend on values (class numbers, indices), which meta cannot see.
  bool checks_values = false;
  /// Shapes of inputs for a row whose name the goldens do not have: it is run on random f32 values.
  std::vector<Shape> example = {};
};

const std::vector<OpRow>& op_rows();
/// Null where there is no row of that name.
const OpRow* find_op_row(const std::string& name);

// The families; each file has the rows of one.
void add_pointwise_rows(std::vector<OpRow>& rows);
void add_shape_rows(std::vector<OpRow>& rows);
void add_reduction_rows(std::vector<OpRow>& rows);
void add_network_rows(std::vector<OpRow>& rows);
void add_training_rows(std::vector<OpRow>& rows);

}  // namespace weft::test
