// Storages: eviction, read-only memory, meta figures, run-time ops.
#include <doctest/doctest.h>

#include <memory>
#include <weft/autograd/autograd.hpp>
#include <weft/autograd/node.hpp>
#include <weft/core/base/error.hpp>
#include <weft/core/infer.hpp>
#include <weft/core/memory.hpp>
#include <weft/core/op.hpp>
#include <weft/core/ops.hpp>

#include <weft/tests/support/errors.hpp>

using namespace weft;
using weft::test::check_error;

namespace {

/// Keeps the bytes of an evicted storage aside, in a place of their own.
class CopyingResidency : public Residency {
 public:
  explicit CopyingResidency(size_t bytes) : kept_(bytes) {}
  std::byte* materialise(size_t bytes) override {
    ++materialised;
    resident_ = std::make_unique<std::byte[]>(bytes + 64 * static_cast<size_t>(materialised));
    std::copy(kept_.begin(), kept_.end(), resident_.get());
    return resident_.get();
  }
  void evict(std::byte* data, size_t bytes) noexcept override {
    std::copy(data, data + bytes, kept_.begin());
    resident_.reset();
    ++evicted;
  }
  int materialised = 0, evicted = 0;

 private:
  std::vector<std::byte> kept_;
  std::unique_ptr<std::byte[]> resident_;
};

void triple_rule(InferCall& call) { infer::pointwise(call); }
void triple_kernel(Context& context, const Attrs&, Inputs inputs, Outputs outputs) {
  for (int64_t i = 0; i < outputs[0]->numel; ++i)
    context.data<double>(outputs[0])[i] = 3 * context.data<double>(inputs[0])[i];
}
void triple_formula(VjpContext& c) { c.set(0, c.grad() * 3.0); }

}  // namespace

TEST_CASE("an evictable storage comes and goes under live handles") {
  CopyingResidency residency(16);
  const Storage storage = Storage::evictable(16, Device::cpu(), residency);
  Tensor w = tensor_over(storage, {4}, {1}, 0, DType::f32);
  CHECK_FALSE(storage.is_resident());
  check_error<ArgumentError>("evicted_in_op", [&] { w + 1.0; });
  check_error<ArgumentError>("evicted_host_access", [&] { w.data<float>(); });
  check_error<ArgumentError>("evicted_host_copy", [&] { w.to_vector<float>(); });
  storage.pin();
  w.fill_(2.0);
  check_error<ArgumentError>("evict_while_pinned", [&] { storage.evict(); });
  w.requires_grad_();
  Tensor x = ones({4}).requires_grad_();
  const Tensor y = sum(w * x);  // saves w
  storage.unpin();
  storage.evict();
  CHECK(residency.evicted == 1);
  check_error<ArgumentError>("evicted_in_backward", [&] { y.backward(Tensor(), true); });
  storage.pin();  // at another address
  x.set_grad({});
  w.set_grad({});
  y.backward();
  CHECK(x.grad().to_vector<float>() == std::vector<float>{2, 2, 2, 2});
  CHECK(w.to_vector<float>() == std::vector<float>{2, 2, 2, 2});
  CHECK(residency.materialised == 2);
  storage.unpin();
}

TEST_CASE("a storage that was never evictable ignores pins") {
  const Tensor x = ones({2});
  x.storage().pin();
  x.storage().evict();
  x.storage().unpin();
  CHECK(x.storage().is_resident());
}

TEST_CASE("read-only memory is never written") {
  alignas(8) static float values[2] = {1, 2};
  const Storage storage = Storage::wrap(reinterpret_cast<std::byte*>(values), sizeof(values),
                                        Device::cpu(), kReadOnly, nullptr, nullptr);
  Tensor x = tensor_over(storage, {2}, {1}, 0, DType::f32);
  CHECK(sum(x).item<float>() == 3.f);
  check_error<ArgumentError>("read_only_in_place", [&] { x.add_(1); });
  check_error<ArgumentError>("read_only_host_write", [&] { x.mutable_data<float>(); });
  CHECK(values[0] == 1.f);
}

TEST_CASE("meta counts bytes and has none") {
  const Device meta = Device::meta();
  const int64_t before = memory_stats(meta).allocated;
  {
    const Tensor x = empty({1 << 20, 1 << 10}, {.device = meta});
    CHECK(memory_stats(meta).allocated - before == int64_t{4} << 30);
    const Tensor y = matmul(x, x.t());
    CHECK(y.shape() == Shape{1 << 20, 1 << 20});
    CHECK(y.device() == meta);
    check_error<DeviceError>("meta_item", [&] { sum(x).item<float>(); });
    check_error<DeviceError>("meta_host_access", [&] { x.data<float>(); });
    check_error<DeviceError>("meta_large_to_cpu", [&] { x.to(Device::cpu()); });
  }
  CHECK(memory_stats(meta).allocated == before);
  check_error<DeviceError>("meta_limit", [&] { set_memory_limit(1, meta); });
}

TEST_CASE("an op of the program's own has shapes, gradients and meta") {
  const OpId triple = register_op({.name = "triple", .infer = triple_rule, .vjp = triple_formula},
                                  {.cpu = triple_kernel});
  CHECK(find_op("triple") == triple);
  CHECK(all_ops().back() == triple);
  const auto run = [&](const Tensor& x) {
    const TensorRef ref = x.impl();
    return dispatch(triple, Attrs(), Inputs(&ref, 1));
  };
  const Tensor x = tensor({1.f, 2.f}).to(DType::f64).requires_grad_();
  CHECK(run(x).to_vector<double>() == std::vector<double>{3, 6});
  CHECK(gradcheck([&](const std::vector<Tensor>& in) { return run(in[0]); }, {x}) == "");
  CHECK(run(empty({5}, {.dtype = DType::f64, .device = Device::meta()})).shape() == Shape{5});
  CHECK(run(x.detach().to(Device::sim())).to_vector<double>() == std::vector<double>{3, 6});

  check_error<ArgumentError>("register_op_twice", [] {
    register_op({.name = "add", .infer = triple_rule, .vjp = triple_formula},
                {.cpu = triple_kernel});
  });
  check_error<ArgumentError>("register_op_no_name", [] { register_op({}, {}); });
  check_error<ArgumentError>("register_op_no_rule", [] { register_op({.name = "x1"}, {}); });
  check_error<ArgumentError>("register_op_no_kernel",
                             [] { register_op({.name = "x2", .infer = triple_rule}, {}); });
  check_error<ArgumentError>("register_op_no_formula", [] {
    register_op({.name = "x3", .infer = triple_rule}, {.cpu = triple_kernel});
  });
  check_error<ArgumentError>("find_op_unknown", [] { find_op("sofmax"); });
}

TEST_CASE("errors of dispatch") {
  const Tensor x = ones({2, 3}), y = ones({4});
  check_error<ArgumentError>("broadcast", [&] { x + y; });
  check_error<ArgumentError>("empty_handle", [&] { x + Tensor(); });
  check_error<ArgumentError>("wrong_arity", [&] {
    const TensorRef ref = x.impl();
    dispatch(OpId::add, Attrs(), Inputs(&ref, 1));
  });
  check_error<ArgumentError>("in_place_shape", [&] {
    Tensor small = ones({3});
    small.add_(x);
  });
  check_error<ArgumentError>("in_place_expanded", [&] { ones({1}).expand({4}).add_(1); });
}
