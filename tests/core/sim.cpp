// The sim device: what a GPU would break shows here.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <weft/autograd/autograd.hpp>
#include <weft/core/base/error.hpp>
#include <weft/core/memory.hpp>
#include <weft/core/op.hpp>
#include <weft/core/ops.hpp>
#include <weft/core/stream.hpp>

#include <weft/tests/support/errors.hpp>

using namespace weft;
using weft::test::check_error;

namespace {

std::atomic<bool> gate_open{true};

/// Copies its input, once the gate is open: work that is known to be still queued.
void gated_copy(Context& context, const Attrs&, Inputs inputs, Outputs outputs) {
  gate_open.wait(false);
  for (int64_t i = 0; i < outputs[0]->numel; ++i)
    context.data<float>(outputs[0])[i] = context.data<float>(inputs[0])[i];
}

void failing_kernel(Context&, const Attrs&, Inputs, Outputs) {
  throw ArgumentError("failing_op: this kernel always fails");
}

void same_shape(InferCall& call) {
  call.outputs[0].shape = call.inputs[0]->shape;
  call.outputs[0].dtype = call.inputs[0]->dtype;
}

OpId gated_op() {
  static const OpId op =
      register_op({.name = "gated_copy", .traits = kNotDifferentiable, .infer = same_shape},
                  {.cpu = gated_copy});
  return op;
}

Tensor run(OpId op, const Tensor& x) {
  const TensorRef ref = x.impl();
  return dispatch(op, Attrs(), Inputs(&ref, 1));
}

class ClosedGate {
 public:
  ClosedGate() { gate_open = false; }
  ~ClosedGate() { open(); }
  void open() {
    gate_open = true;
    gate_open.notify_all();
  }
};

}  // namespace

TEST_CASE("sim computes what the CPU computes") {
  const Device sim = Device::sim();
  const Tensor a = arange(0, 12).to(DType::f32).reshape({3, 4}), b = full({4}, 0.5);
  const Tensor on_sim = exp(a.to(sim).t() * 0.1) + b.to(sim).unsqueeze(1);
  const Tensor on_cpu = exp(a.t() * 0.1) + b.unsqueeze(1);
  CHECK(on_sim.device() == sim);
  CHECK(on_sim.to_vector<float>() == on_cpu.to_vector<float>());
  CHECK(sum(on_sim).item<float>() == sum(on_cpu).item<float>());
}

TEST_CASE("backward runs on sim") {
  Tensor x = tensor({1.f, 2.f, 3.f}, Device::sim()).requires_grad_();
  sum(x * x).backward();
  CHECK(x.grad().device() == Device::sim());
  CHECK(x.grad().to_vector<float>() == std::vector<float>{2, 4, 6});
}

TEST_CASE("the host cannot touch sim memory") {
  const Tensor x = ones({2}, {.device = Device::sim()});
  check_error<DeviceError>("host_access_sim", [&] { x.data<float>(); });
  check_error<DeviceError>("host_write_sim", [&] { x.mutable_data<float>(); });
  check_error<DeviceError>("mixed_devices", [&] { x + ones({2}); });
  check_error<DeviceError>("sim_index", [] { ones({1}, {.device = Device::sim(9)}); });
  check_error<DeviceError>("cuda_missing", [] { ones({1}, {.device = Device::cuda()}); });
}

TEST_CASE("work runs later, in the order of its stream") {
  const Tensor x = ones({4}, {.device = Device::sim(1)});
  synchronize(Device::sim(1));
  ClosedGate gate;
  const Tensor y = run(gated_op(), x);
  Stream& now = current_stream(Device::sim(1));
  const uint64_t event = now.record_event();
  CHECK_FALSE(now.event_done(event));
  const Tensor z = y + 1.0;  // queued behind it
  gate.open();
  CHECK(z.to_vector<float>() == std::vector<float>{2, 2, 2, 2});
  CHECK(now.event_done(event));
}

TEST_CASE("an error of a kernel comes out of a later call, once") {
  const Device device = Device::sim(2);
  const OpId op =
      register_op({.name = "failing_op", .traits = kNotDifferentiable, .infer = same_shape},
                  {.cpu = failing_kernel});
  const Tensor x = ones({1}, {.device = device});
  synchronize(device);
  const Tensor y = run(op, x);
  CHECK_THROWS_WITH_AS(synchronize(device), "failing_op: this kernel always fails", ArgumentError);
  synchronize(device);
  CHECK((x + 1.0).item<float>() == 2.f);
}

TEST_CASE("freed memory is not reused under work of another stream that was named") {
  const Device device = Device::sim(3);
  Stream& side = stream(device, 1);
  Tensor x = ones({1024}, {.device = device});
  synchronize(device);
  ClosedGate gate;
  Tensor copy;
  {
    const StreamGuard guard(side);
    copy = run(gated_op(), x);
  }
  x.storage().used_on(side);
  const std::byte* address = x.impl()->data;
  x = Tensor();
  const Tensor other = full({1024}, 7.0, {.device = device});  // must take other memory
  CHECK(other.impl()->data != address);
  current_stream(device).synchronize();
  gate.open();
  side.synchronize();
  CHECK(copy.to_vector<float>() == std::vector<float>(1024, 1.f));
  const Tensor later = ones({1024}, {.device = device});  // the work is done: now it may
  CHECK(later.impl()->data == address);
}

TEST_CASE("one stream waits for another one's event") {
  const Device device = Device::sim(4);
  Stream& side = stream(device, 1);
  const Tensor x = ones({8}, {.device = device});
  synchronize(device);
  ClosedGate gate;
  Tensor made;
  {
    const StreamGuard guard(side);
    made = run(gated_op(), x);
  }
  current_stream(device).wait_event(side, side.record_event());
  made.storage().used_on(current_stream(device));
  const Tensor sum_of = sum(made);
  gate.open();
  CHECK(sum_of.item<float>() == 8.f);
  check_error<DeviceError>("stream_index", [&] { stream(device, 99); });
  check_error<DeviceError>("meta_stream", [] { current_stream(Device::meta()); });
  check_error<DeviceError>("used_on_other_device",
                           [&] { x.storage().used_on(stream(Device::sim(5), 0)); });
}

TEST_CASE("sim has a byte budget and figures") {
  const Device device = Device::sim(6);
  set_memory_limit(1 << 20, device);
  const Tensor x = zeros({1 << 16}, {.device = device});
  CHECK(memory_stats(device).allocated == 4 << 16);
  check_error<OutOfMemory>("sim_out_of_memory", [&] { zeros({1 << 20}, {.device = device}); });
  set_memory_limit(0, device);
  CHECK(zeros({1 << 20}, {.device = device}).numel() == 1 << 20);
  CHECK(memory_stats(device).peak_allocated >= 4 << 20);
  reset_peak_memory_stats(device);
  CHECK(memory_stats(device).peak_allocated == memory_stats(device).allocated);
}
