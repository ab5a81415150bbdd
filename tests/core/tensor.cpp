// The tensor itself: properties, access from the host, views, memory, promotion of dtypes.
#include <doctest/doctest.h>

#include <array>
#include <sstream>
#include <string>
#include <vector>

#include <weft/core/base/error.hpp>
#include <weft/core/infer.hpp>
#include <weft/core/memory.hpp>
#include <weft/core/ops.hpp>
#include <weft/tests/support/errors.hpp>

using namespace weft;
using namespace weft::test;

namespace {

Tensor counting(const Shape& shape) {
  return arange(0, shape.numel(), 1).to(DType::f32).reshape(shape);
}

std::vector<float> values(const Tensor& x) { return x.to_vector<float>(); }

DType dtype_named(const std::string& name) {
  for (int i = 0; i < kDTypeCount; ++i)
    if (name_of(static_cast<DType>(i)) == name) return static_cast<DType>(i);
  throw std::invalid_argument(name);
}

std::vector<DType> dtypes(const char* names) {
  std::istringstream words(names);
  std::vector<DType> all;
  for (std::string word; words >> word;) all.push_back(dtype_named(word));
  return all;
}

constexpr const char* kAll = "bool u8 i8 i16 i32 i64 f16 bf16 f32 f64";

DType promoted(const Tensor& a, const Tensor& b) {
  const std::array<TensorRef, 2> refs = {a.impl(), b.impl()};
  return result_type(refs);
}

}  // namespace

TEST_CASE("tensor: properties") {
  const Tensor x = zeros({2, 3, 4}, {.dtype = DType::bf16});
  CHECK(x.shape() == Shape{2, 3, 4});
  CHECK(x.strides() == Strides{12, 4, 1});
  CHECK(x.size(0) == 2);
  CHECK(x.size(-1) == 4);
  CHECK(x.dim() == 3);
  CHECK(x.numel() == 24);
  CHECK(x.nbytes() == 48);
  CHECK(x.dtype() == DType::bf16);
  CHECK(x.device() == Device::cpu());
  CHECK(x.is_contiguous());
  CHECK(x.is_floating_point());
  CHECK(x.storage_offset() == 0);
  CHECK(!x.requires_grad());
  CHECK(x.is_leaf());
  CHECK(x.is_same(x));
  CHECK(!x.is_same(x.clone()));
  check_error<ArgumentError>("tensor_size_range", [&] { x.size(3); });
  check_error<ArgumentError>("tensor_size_scalar", [] { tensor(1.f).size(0); });
}

TEST_CASE("tensor: an empty handle is an error wherever it is used") {
  const Tensor none;
  CHECK(!none.defined());
  CHECK(!none);
  check_error<ArgumentError>("tensor_undefined", [&] { none.shape(); });
  CHECK_THROWS_AS(none + none, ArgumentError);
  CHECK_THROWS_AS(none.view({1}), ArgumentError);
  Tensor moved = ones({1});
  const Tensor target = std::move(moved);
  CHECK(target.defined());
  CHECK(!moved.defined());  // NOLINT: that is the point
}

TEST_CASE("tensor: shapes that cannot be") {
  check_error<ArgumentError>("tensor_negative", [] { zeros({2, -1}); });
  check_error<ArgumentError>("tensor_too_large", [] {
    zeros({int64_t{1} << 40, int64_t{1} << 40});
  });
  check_error<ArgumentError>("tensor_rank", [] { zeros({1, 1, 1, 1, 1, 1, 1, 1, 1}); });
  check_error<ArgumentError>("tensor_ragged", [] { tensor({{1.f, 2.f}, {3.f}}); });
}

TEST_CASE("tensor: literals choose the dtype") {
  CHECK(tensor(1).dtype() == DType::i64);
  CHECK(tensor(1.5).dtype() == DType::f32);
  CHECK(tensor(true).dtype() == DType::boolean);
  CHECK(tensor({1, 2}).dtype() == DType::i64);
  CHECK(tensor({{1.5, 2.0}, {3.0, 4.0}}).shape() == Shape{2, 2});
  CHECK(tensor(std::vector<double>{1.5}).dtype() == DType::f32);
  CHECK(arange(0, 10, 2).to_vector<int64_t>() == std::vector<int64_t>{0, 2, 4, 6, 8});
  CHECK(arange(0, 1, 0.25).dtype() == DType::f32);
  CHECK(full({2}, 3).dtype() == DType::i64);
  CHECK(full({2}, 3.0).dtype() == DType::f32);
  CHECK(full({2}, true).dtype() == DType::boolean);
}

TEST_CASE("tensor: item, data and their errors") {
  CHECK(tensor({2.5f}).item<float>() == 2.5f);
  CHECK(tensor({{7}}).item<int>() == 7);
  CHECK(tensor(true).item<bool>());
  CHECK(tensor(1.75f).to(DType::f16).item<double>() == 1.75);
  check_error<ArgumentError>("item_many", [] { zeros({2, 2}).item<float>(); });
  check_error<DeviceError>("item_meta",
                           [] { zeros({}, {.device = Device::meta()}).item<float>(); });
  const Tensor x = tensor({1.f, 2.f});
  CHECK(x.data<float>()[1] == 2.f);
  check_error<ArgumentError>("data_dtype", [&] { x.data<double>(); });
  check_error<DeviceError>("data_meta",
                           [] { zeros({2}, {.device = Device::meta()}).data<float>(); });
  check_error<DeviceError>("data_sim", [] { ones({2}).to(Device::sim()).data<float>(); });
}

TEST_CASE("tensor: copies of a handle share the data; clone does not") {
  const Tensor a = tensor({1.f, 2.f});
  const Tensor b = a, c = a.clone();
  a.mutable_data<float>()[0] = 9.f;
  CHECK(values(b) == std::vector<float>{9.f, 2.f});
  CHECK(values(c) == std::vector<float>{1.f, 2.f});
}

TEST_CASE("tensor: every write raises the version, which views share") {
  Tensor x = zeros({4});
  const Tensor part = x.slice(0, 0, 2);
  const uint32_t start = x.version();
  x.fill_(1);
  CHECK(x.version() == start + 1);
  x.mutable_data<float>();
  CHECK(x.version() == start + 2);
  x.slice(0, 2, 4).add_(1);
  CHECK(part.version() == start + 3);
  CHECK(x.clone().version() == 0);
  CHECK(values(x) == std::vector<float>{1, 1, 2, 2});
}

TEST_CASE("tensor: from_blob borrows and calls its deleter once, with the last handle") {
  std::vector<float> memory = {1, 2, 3, 4};
  int deleted = 0;
  {
    Tensor view;
    {
      const Tensor x = from_blob(memory.data(), {2, 2}, DType::f32, [&](void* p) {
        CHECK(p == memory.data());
        ++deleted;
      });
      view = x.select(0, 1);
      x.mutable_data<float>()[3] = 8;
    }
    CHECK(deleted == 0);
    CHECK(values(view) == std::vector<float>{3, 8});
  }
  CHECK(deleted == 1);
  CHECK(memory[3] == 8);
  check_error<ArgumentError>("from_blob_null", [] { from_blob(nullptr, {2}, DType::f32); });
  check_error<ArgumentError>("from_blob_negative",
                             [&] { from_blob(memory.data(), {-2}, DType::f32); });
}

TEST_CASE("tensor: views share memory and have the right elements") {
  const Tensor x = counting({2, 3, 4});
  CHECK(x.view({6, 4}).impl()->data == x.impl()->data);
  CHECK(x.view({-1}).shape() == Shape{24});
  CHECK(x.transpose(0, 2).shape() == Shape{4, 3, 2});
  CHECK(values(x.transpose(0, 2).select(0, 1)) == std::vector<float>{1, 13, 5, 17, 9, 21});
  CHECK(x.permute({2, 0, 1}).strides() == Strides{1, 12, 4});
  CHECK(x.unsqueeze(1).shape() == Shape{2, 1, 3, 4});
  CHECK(x.unsqueeze(-1).shape() == Shape{2, 3, 4, 1});
  CHECK(x.unsqueeze(1).squeeze().shape() == x.shape());
  CHECK(x.unsqueeze(1).squeeze(1).shape() == x.shape());
  CHECK(x.squeeze(1).shape() == x.shape());
  CHECK(x.flatten().shape() == Shape{24});
  CHECK(x.flatten(1).shape() == Shape{2, 12});
  CHECK(tensor(3.f).flatten().shape() == Shape{1});
  CHECK(x.select(1, -1).shape() == Shape{2, 4});
  CHECK(values(x.select(1, -1).select(0, 0)) == std::vector<float>{8, 9, 10, 11});
  CHECK(values(x.slice(2, 1, 4, 2).select(0, 0)) == std::vector<float>{1, 3, 5, 7, 9, 11});
  CHECK(x.slice(0, -1, 100).shape() == Shape{1, 3, 4});
  CHECK(x.slice(0, 2, 1).shape() == Shape{0, 3, 4});
  CHECK(x.narrow(1, 1, 2).shape() == Shape{2, 2, 4});
  CHECK(counting({3, 1}).expand({3, 2}).strides() == Strides{1, 0});
  CHECK(values(counting({3, 1}).expand({-1, 2})) == std::vector<float>{0, 0, 1, 1, 2, 2});
  CHECK(values(diagonal(counting({3, 3}), 1)) == std::vector<float>{1, 5});
  CHECK(values(diagonal(counting({3, 2}), -1)) == std::vector<float>{2, 5});
  CHECK(movedim(x, 0, -1).shape() == Shape{3, 4, 2});
  CHECK(counting({2, 3}).t().shape() == Shape{3, 2});
  CHECK(split(x, 3, 2).at(1).shape() == Shape{2, 3, 1});
  CHECK(split(x, {1, 3}, 2).at(1).shape() == Shape{2, 3, 3});
  CHECK(chunk(counting({7}), 3).size() == 3);
  CHECK(unbind(x, 1).size() == 3);
  CHECK(x.transpose(0, 1).contiguous().is_contiguous());
  CHECK(values(x.transpose(0, 1).reshape({6, 4}).select(0, 1)) ==
        std::vector<float>{12, 13, 14, 15});
  CHECK(x.contiguous().is_same(x));
}

TEST_CASE("tensor: views that cannot be") {
  const Tensor x = counting({2, 3});
  check_error<ArgumentError>("view_size", [&] { x.view({4}); });
  check_error<ArgumentError>("view_two_unknown", [&] { x.view({-1, -1}); });
  check_error<ArgumentError>("view_strides", [&] { x.t().view({6}); });
  check_error<ArgumentError>("view_negative", [&] { x.view({-2, 3}); });
  check_error<ArgumentError>("reshape_size", [&] { x.reshape({-1, 4}); });
  check_error<ArgumentError>("permute_count", [&] { x.permute({0}); });
  check_error<ArgumentError>("permute_twice", [&] { x.permute({0, 0}); });
  check_error<ArgumentError>("transpose_range", [&] { x.transpose(0, 2); });
  check_error<ArgumentError>("unsqueeze_range", [&] { x.unsqueeze(4); });
  check_error<ArgumentError>("squeeze_range", [&] { x.squeeze(2); });
  check_error<ArgumentError>("flatten_order", [&] { x.flatten(1, 0); });
  check_error<ArgumentError>("expand_size", [&] { x.expand({2, 4}); });
  check_error<ArgumentError>("expand_rank", [&] { x.expand({3}); });
  check_error<ArgumentError>("select_range", [&] { x.select(1, 3); });
  check_error<ArgumentError>("slice_step", [&] { x.slice(0, 0, 2, 0); });
  check_error<ArgumentError>("narrow_range", [&] { x.narrow(1, 2, 2); });
  check_error<ArgumentError>("split_zero", [&] { split(x, 0, 0); });
  check_error<ArgumentError>("split_sizes", [&] { split(x, {1, 1}, 1); });
  check_error<ArgumentError>("chunk_zero", [&] { chunk(x, 0); });
  check_error<ArgumentError>("t_rank", [&] { x.unsqueeze(0).t(); });
}

TEST_CASE("tensor: the allocator counts, reuses, and keeps its limit") {
  empty_cache();
  const MemoryStats before = memory_stats();
  constexpr int64_t kBytes = 3 << 20;
  {
    const Tensor x = empty({kBytes / 4});
    CHECK(memory_stats().allocated - before.allocated >= kBytes);
    CHECK(memory_stats().allocations > before.allocations);
  }
  CHECK(memory_stats().allocated == before.allocated);
  CHECK(memory_stats().peak_allocated - before.allocated >= kBytes);
  const int64_t hits = memory_stats().cache_hits;
  { const Tensor again = empty({kBytes / 4}); }
  CHECK(memory_stats().cache_hits == hits + 1);
  reset_peak_memory_stats();
  CHECK(memory_stats().peak_allocated == memory_stats().allocated);
  empty_cache();

  set_memory_limit(memory_stats().reserved + kBytes);
  CHECK(memory_stats().limit > 0);
  check_error<OutOfMemory>(
      "out_of_memory",
      [] {
        zeros({1 << 20, 4});
      },
      without_digits);
  { const Tensor fits = empty({1 << 10}); }
  set_memory_limit(0);
  CHECK(zeros({1 << 20, 4}).numel() == 4 << 20);
}

TEST_CASE("tensor: meta tensors count the bytes that they do not have") {
  const int64_t before = memory_stats(Device::meta()).allocated;
  const Tensor x = empty({1 << 20, 1 << 10}, {.dtype = DType::bf16, .device = Device::meta()});
  CHECK(memory_stats(Device::meta()).allocated - before == int64_t{1} << 31);
}

TEST_CASE("tensor: dtypes promote as PyTorch's") {
  // Both with dimensions; rows and columns in the order of kAll.
  const char* const both[] = {
      "bool u8 i8 i16 i32 i64 f16 bf16 f32 f64",  "u8 u8 i16 i16 i32 i64 f16 bf16 f32 f64",
      "i8 i16 i8 i16 i32 i64 f16 bf16 f32 f64",   "i16 i16 i16 i16 i32 i64 f16 bf16 f32 f64",
      "i32 i32 i32 i32 i32 i64 f16 bf16 f32 f64", "i64 i64 i64 i64 i64 i64 f16 bf16 f32 f64",
      "f16 f16 f16 f16 f16 f16 f16 f32 f32 f64",  "bf16 bf16 bf16 bf16 bf16 bf16 f32 bf16 f32 f64",
      "f32 f32 f32 f32 f32 f32 f32 f32 f32 f64",  "f64 f64 f64 f64 f64 f64 f64 f64 f64 f64",
  };
  // The second one 0-d: it counts only across categories.
  const char* const with_zero_d[] = {
      "bool u8 i8 i16 i32 i64 f16 bf16 f32 f64",
      "u8 u8 u8 u8 u8 u8 f16 bf16 f32 f64",
      "i8 i8 i8 i8 i8 i8 f16 bf16 f32 f64",
      "i16 i16 i16 i16 i16 i16 f16 bf16 f32 f64",
      "i32 i32 i32 i32 i32 i32 f16 bf16 f32 f64",
      "i64 i64 i64 i64 i64 i64 f16 bf16 f32 f64",
      "f16 f16 f16 f16 f16 f16 f16 f16 f16 f16",
      "bf16 bf16 bf16 bf16 bf16 bf16 bf16 bf16 bf16 bf16",
      "f32 f32 f32 f32 f32 f32 f32 f32 f32 f32",
      "f64 f64 f64 f64 f64 f64 f64 f64 f64 f64",
  };
  // With true, 1 and 1.0; the same for 0-d tensors.
  const char* const with_numbers[] = {
      "bool i64 f32", "u8 u8 f32",   "i8 i8 f32",      "i16 i16 f32", "i32 i32 f32",
      "i64 i64 f32",  "f16 f16 f16", "bf16 bf16 bf16", "f32 f32 f32", "f64 f64 f64"};
  const std::vector<DType> all = dtypes(kAll);
  for (size_t i = 0; i < all.size(); ++i) {
    const Tensor row = zeros({2}, {.dtype = all[i]}), zero_d = zeros({}, {.dtype = all[i]});
    const std::vector<DType> numbers = dtypes(with_numbers[i]);
    for (const Tensor& x : {row, zero_d}) {
      CAPTURE(to_string(x));
      CHECK(mul(x, Scalar(true)).dtype() == numbers[0]);
      CHECK(mul(x, Scalar(1)).dtype() == numbers[1]);
      CHECK(mul(x, Scalar(1.0)).dtype() == numbers[2]);
    }
    for (size_t j = 0; j < all.size(); ++j) {
      CAPTURE(name_of(all[i]));
      CAPTURE(name_of(all[j]));
      CHECK(promote_types(all[i], all[j]) == dtypes(both[i])[j]);
      CHECK(promoted(row, zeros({3, 2}, {.dtype = all[j]})) == dtypes(both[i])[j]);
      CHECK(promoted(row, zeros({}, {.dtype = all[j]})) == dtypes(with_zero_d[i])[j]);
      CHECK(promoted(zeros({}, {.dtype = all[j]}), row) == dtypes(with_zero_d[i])[j]);
      CHECK(mul(row, zeros({}, {.dtype = all[j]})).dtype() == dtypes(with_zero_d[i])[j]);
    }
  }
}
