// Making tensors, and moving them between devices.
#include <doctest/doctest.h>

#include <vector>

#include <weft/autograd/autograd.hpp>
#include <weft/core/base/error.hpp>
#include <weft/core/ops.hpp>
#include <weft/tests/support/errors.hpp>

using namespace weft;
using weft::test::check_error;

namespace {

using Values = std::vector<double>;
Values values(const Tensor& x) { return x.to_vector<double>(); }

}  // namespace

TEST_CASE("constants: dtype from the number, or as asked for") {
  CHECK(full({2}, 3).dtype() == DType::i64);
  CHECK(full({2}, 3.0).dtype() == DType::f32);
  CHECK(full({2}, true).dtype() == DType::boolean);
  CHECK(values(full({2}, 2.75, {.dtype = DType::i8})) == Values{2, 2});
  CHECK(values(zeros({2, 1})) == Values{0, 0});
  CHECK(values(ones({1, 2}, {.dtype = DType::f16})) == Values{1, 1});
  const Tensor x = full({2, 2}, 5.0, {.dtype = DType::bf16});
  for (const Tensor& like : {zeros_like(x), ones_like(x), full_like(x, 7), empty_like(x)}) {
    CHECK(like.dtype() == DType::bf16);
    CHECK(like.shape() == x.shape());
  }
  CHECK(values(full_like(x, 7)) == Values{7, 7, 7, 7});
  CHECK(ones({2}, {.requires_grad = true}).requires_grad());
  CHECK(empty({2}, {.requires_grad = true}).requires_grad());
  CHECK(scalar_tensor(4, {}).dim() == 0);
}

TEST_CASE("arange, linspace, eye") {
  CHECK(values(arange(4)) == Values{0, 1, 2, 3});
  CHECK(arange(4).dtype() == DType::i64);
  CHECK(values(arange(0, 10, 3)) == Values{0, 3, 6, 9});
  CHECK(values(arange(5, 0, -2)) == Values{5, 3, 1});
  CHECK(arange(3, 3).numel() == 0);
  CHECK(arange(0, 1, 0.25).dtype() == DType::f32);
  CHECK(values(arange(0, 1, 0.25)) == Values{0, 0.25, 0.5, 0.75});
  CHECK(values(arange(0, 3, 1, {.dtype = DType::f64})) == Values{0, 1, 2});
  CHECK(arange(0, 2000).to_vector<int64_t>()[1999] == 1999);
  CHECK(values(linspace(0, 1, 5)) == Values{0, 0.25, 0.5, 0.75, 1});
  CHECK(values(linspace(3, 9, 1)) == Values{3});
  CHECK(linspace(0, 1, 0).numel() == 0);
  CHECK(linspace(-2.0, 1.0 / 3, 7, {.dtype = DType::f64}).to_vector<double>()[6] == 1.0 / 3);
  CHECK(values(eye(3)) == Values{1, 0, 0, 0, 1, 0, 0, 0, 1});
  CHECK(eye(0).numel() == 0);
  check_error<ArgumentError>("arange_step", [] { arange(0, 3, 0); });
  check_error<ArgumentError>("arange_direction", [] { arange(0, 3, -1); });
  check_error<ArgumentError>("arange_infinite", [] { arange(0, 1.0 / 0.0, 1); });
  check_error<ArgumentError>("linspace_steps", [] { linspace(0, 1, -1); });
}

TEST_CASE("tensor() reads literals; ragged rows are refused") {
  CHECK(tensor({1.5, 2.5}).dtype() == DType::f32);
  CHECK(tensor({1, 2}).dtype() == DType::i64);
  CHECK(tensor({true, false}).dtype() == DType::boolean);
  CHECK(tensor(3.0f).dim() == 0);
  CHECK(tensor({{1.f, 2.f}, {3.f, 4.f}}).shape() == Shape{2, 2});
  CHECK(values(tensor(std::vector<int32_t>{4, 5})) == Values{4, 5});
  check_error<ArgumentError>("tensor_ragged", [] { tensor({{1, 2}, {3}}); });
}

TEST_CASE("from_blob shares memory and calls its deleter once; from_host copies") {
  std::vector<float> memory = {1, 2, 3, 4};
  int deleted = 0;
  {
    Tensor x = from_blob(memory.data(), {2, 2}, DType::f32, [&](void* p) {
      CHECK(p == memory.data());
      ++deleted;
    });
    const Tensor view = x.t();
    x.add_(1.0);
    x = Tensor();
    CHECK(deleted == 0);
    CHECK(values(view) == Values{2, 4, 3, 5});
  }
  CHECK(deleted == 1);
  CHECK(memory == std::vector<float>{2, 3, 4, 5});
  const Tensor copy = from_host(memory.data(), {4}, DType::f32);
  memory[0] = 9;
  CHECK(values(copy) == Values{2, 3, 4, 5});
  CHECK(from_blob(nullptr, {0}, DType::f32).numel() == 0);
  check_error<ArgumentError>("from_blob_null", [] { from_blob(nullptr, {2}, DType::f32); });
  check_error<ArgumentError>("from_blob_size", [&] { from_blob(memory.data(), {-2}, DType::f32); });
  check_error<ArgumentError>("from_host_null", [] { from_host(nullptr, {2}, DType::f32); });
}

TEST_CASE("impossible tensors are refused") {
  check_error<ArgumentError>("zeros_negative", [] { zeros({2, -1}); });
  check_error<ArgumentError>("ones_whole_grad",
                             [] { ones({2}, {.dtype = DType::i64, .requires_grad = true}); });
  check_error<ArgumentError>("empty_whole_grad",
                             [] { empty({2}, {.dtype = DType::i64, .requires_grad = true}); });
}

TEST_CASE("to returns the same tensor where nothing changes, and is recorded where it does") {
  Tensor x = ones({2, 3}, {.requires_grad = true});
  CHECK(x.to(DType::f32).is_same(x));
  CHECK(x.to(Device::cpu()).is_same(x));
  CHECK(x.contiguous().is_same(x));
  CHECK_FALSE(x.clone().is_same(x));
  (x.to(DType::f64) * 3.0).backward(full({2, 3}, 2.0, {.dtype = DType::f64}));
  CHECK(x.grad().dtype() == DType::f32);
  CHECK(values(x.grad()) == Values{6, 6, 6, 6, 6, 6});
}

TEST_CASE("between devices: values, strides, dtype, gradients") {
  Tensor x = arange(0, 6).to(DType::f32).view({2, 3});
  x.requires_grad_();
  const Tensor there = x.t().to(Device::sim(), DType::f64);
  CHECK(there.device() == Device::sim());
  CHECK(there.dtype() == DType::f64);
  CHECK(values(there) == Values{0, 3, 1, 4, 2, 5});
  const Tensor other = there.to(Device::sim(1));
  const Tensor back = (other * 2 + 1).cpu();
  CHECK(values(back) == Values{1, 7, 3, 9, 5, 11});
  back.backward(ones({3, 2}, {.dtype = DType::f64}));
  CHECK(x.grad().device() == Device::cpu());
  CHECK(values(x.grad()) == Values{2, 2, 2, 2, 2, 2});
  Tensor target = zeros({3}, {.device = Device::sim()});
  target.copy_(tensor({1.0, 2.0, 3.0}));
  target.add_(ones({3}, {.device = Device::sim()})).mul_(2);
  target.slice(0, 0, 1).fill_(-4);
  CHECK(values(target) == Values{-4, 6, 8});
}

TEST_CASE("meta: shapes go through, values are refused") {
  const Tensor x = ones({2, 3}).to(Device::meta());
  CHECK(x.device().is_meta());
  CHECK((gelu(x) + 1).shape() == Shape{2, 3});
  CHECK(where(gt(x, 0), x, 0).t().clone().shape() == Shape{3, 2});
  CHECK(randn({4}, {.device = Device::meta()}).shape() == Shape{4});
  check_error<DeviceError>("meta_to_cpu", [&] { x.cpu(); });
}
