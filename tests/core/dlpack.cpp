// DLPack: what goes out and what comes in.
#include <doctest/doctest.h>

#include <vector>

#include <weft/core/base/error.hpp>
#include <weft/core/io/dlpack.hpp>
#include <weft/core/io/dlpack_abi.hpp>
#include <weft/core/io/safetensors.hpp>
#include <weft/core/ops.hpp>
#include <weft/tests/support/errors.hpp>
#include <weft/tests/support/temp_dir.hpp>

using namespace weft;
using namespace weft::test;

namespace {

/// What another library would hand over: a 2 x 3 matrix of floats, transposed strides.
struct Foreign {
  std::vector<float> values = {0, 1, 2, 3, 4, 5, 6};
  std::vector<int64_t> shape = {2, 3}, strides = {1, 2};
  int deleted = 0;
  DLManagedTensor managed = {
      {values.data(), {1, 0}, 2, {2, 32, 1}, shape.data(), strides.data(), 4},
      this,
      [](DLManagedTensor* self) { ++static_cast<Foreign*>(self->manager_ctx)->deleted; }};
};

}  // namespace

TEST_CASE("dlpack: what another library lends is seen, not copied, and given back once") {
  Foreign foreign;
  {
    const Tensor x = io::from_dlpack(&foreign.managed);
    CHECK(x.shape() == Shape{2, 3});
    CHECK(x.strides() == Strides{1, 2});
    CHECK(x.dtype() == DType::f32);
    CHECK(!x.is_contiguous());
    CHECK((x.storage()->flags & kBorrowed) != 0);
    CHECK(x.to_vector<float>() == std::vector<float>{1, 3, 5, 2, 4, 6});
    foreign.values[1] = 10;
    const Tensor row = x.select(0, 0);
    CHECK(row.data<float>()[0] == 10);
    CHECK(foreign.deleted == 0);
  }
  CHECK(foreign.deleted == 1);
}

TEST_CASE("dlpack: no strides means packed; no deleter means none is called") {
  Foreign foreign;
  foreign.managed.dl_tensor.strides = nullptr;
  foreign.managed.deleter = nullptr;
  const Tensor x = io::from_dlpack(&foreign.managed);
  CHECK(x.is_contiguous());
  CHECK(x.to_vector<float>() == std::vector<float>{1, 2, 3, 4, 5, 6});
}

TEST_CASE("dlpack: every dtype and layout survives the way out and back") {
  for (int i = 0; i < kDTypeCount; ++i) {
    const auto dtype = static_cast<DType>(i);
    CAPTURE(name_of(dtype));
    const Tensor x = arange(0, 6, 1).to(dtype).reshape({2, 3}).slice(1, 1, 3).t();
    DLManagedTensor* const lent = io::to_dlpack(x);
    CHECK(lent->dl_tensor.ndim == 2);
    CHECK(lent->dl_tensor.dtype.bits == size_of(dtype) * 8);
    const Tensor back = io::from_dlpack(lent);
    CHECK(back.dtype() == dtype);
    CHECK(back.shape() == x.shape());
    CHECK(back.strides() == x.strides());
    CHECK(back.impl()->data == x.impl()->data);
    CHECK(back.to_vector<double>() == x.to_vector<double>());
  }
}

TEST_CASE("dlpack: memory lent out lives until the other side is done") {
  Tensor x = ones({3});
  const int64_t before = x.storage()->references.load();
  DLManagedTensor* const lent = io::to_dlpack(x);
  x = Tensor();
  CHECK(static_cast<const float*>(lent->dl_tensor.data)[2] == 1.f);
  CHECK(before == 1);
  lent->deleter(lent);
}

TEST_CASE("dlpack: scalars and empty tensors") {
  CHECK(io::from_dlpack(io::to_dlpack(tensor(2.5f))).item<float>() == 2.5f);
  CHECK(io::from_dlpack(io::to_dlpack(zeros({2, 0, 3}))).shape() == Shape{2, 0, 3});
}

TEST_CASE("dlpack: what cannot be exchanged") {
  check_error<DeviceError>("dlpack_meta",
                           [] { io::to_dlpack(empty({2}, {.device = Device::meta()})); });
  check_error<ArgumentError>("dlpack_grad",
                             [] { io::to_dlpack(ones({2}, {.requires_grad = true})); });
  check_error<ArgumentError>("dlpack_read_only", [] {
    const TempDir folder;
    io::save_safetensors(folder / "x.safetensors", {{"x", ones({2})}});
    io::to_dlpack(io::load_safetensors(folder / "x.safetensors")[0].second);
  });
  check_error<ArgumentError>("dlpack_null", [] { io::from_dlpack(nullptr); });

  const auto refused = [](const char* name, auto change) {
    Foreign foreign;
    change(foreign.managed.dl_tensor, foreign);
    check_error<ArgumentError>(name, [&] { io::from_dlpack(&foreign.managed); });
    CHECK(foreign.deleted == 0);
  };
  refused("dlpack_rank", [](DLTensor& t, Foreign&) { t.ndim = 9; });
  refused("dlpack_complex", [](DLTensor& t, Foreign&) { t.dtype = {5, 64, 1}; });
  refused("dlpack_lanes", [](DLTensor& t, Foreign&) { t.dtype.lanes = 4; });
  refused("dlpack_size", [](DLTensor&, Foreign& f) { f.shape[1] = -1; });
  refused("dlpack_stride", [](DLTensor&, Foreign& f) { f.strides[0] = -1; });
  refused("dlpack_huge", [](DLTensor&, Foreign& f) { f.strides[0] = INT64_MAX, f.shape[0] = 9; });
  refused("dlpack_alignment", [](DLTensor& t, Foreign&) { t.byte_offset = 2; });
  Foreign foreign;
  foreign.managed.dl_tensor.device = {10, 0};
  check_error<DeviceError>("dlpack_device", [&] { io::from_dlpack(&foreign.managed); });
}
