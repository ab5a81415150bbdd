// Printing: the texts are those of PyTorch 2.15 for the same tensors, with weft's names of dtypes.
#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

#include <weft/core/ops.hpp>

using namespace weft;

namespace {

constexpr double kNan = NAN, kInf = INFINITY;

Tensor real(const std::vector<double>& values, const Shape& shape, DType dtype = DType::f32) {
  return from_host(values.data(), shape, DType::f64).to(dtype);
}

Tensor whole(const std::vector<int64_t>& values, const Shape& shape, DType dtype = DType::i64) {
  return from_host(values.data(), shape, DType::i64).to(dtype);
}

/// 0, 1/16, 2/16 …
Tensor sixteenths(int64_t count) {
  std::vector<float> values;
  for (int64_t i = 0; i < count; ++i) values.push_back(static_cast<float>(i) / 16);
  return from_host(values.data(), {count}, DType::f32);
}

struct Row {
  Tensor tensor;
  std::string text;
};

std::vector<Row> rows() {
  return {
#include <weft/tests/core/print_rows.def>
  };
}

}  // namespace

TEST_CASE("printing is PyTorch's") {
  for (const Row& row : rows()) CHECK(to_string(row.tensor) == row.text);
}

TEST_CASE("printing: what PyTorch does not have") {
  CHECK(to_string(Tensor()) == "tensor(undefined)");
  // A shorter dtype than PyTorch's stays on the line.
  CHECK(to_string(sixteenths(7).to(DType::f64)) ==
        "tensor([0.0000, 0.0625, 0.1250, 0.1875, 0.2500, 0.3125, 0.3750], dtype=f64)");
  const Tensor x = real({1, 2}, {2}).requires_grad_();
  CHECK(to_string(x * x) == "tensor([1., 4.], grad_fn=<Mul>)");
  CHECK(to_string((x * x).detach()) == "tensor([1., 4.])");
  CHECK(to_string(real({1, 2}, {2}).to(Device::sim())) == "tensor([1., 2.], device='sim:0')");
}
