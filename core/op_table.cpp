#include <algorithm>
#include <deque>
#include <mutex>
#include <shared_mutex>

#include <weft/core/base/check.hpp>
#include <weft/core/base/nearest.hpp>
#include <weft/core/cpu/level.hpp>
#include <weft/core/infer.hpp>
#include <weft/core/op.hpp>
#include <weft/core/op_table.hpp>

namespace weft::inline v0 {

// Every formula is a function of autograd/; a row without one does not link.
namespace vjp {
#define WEFT_OP(name, ...) void name(VjpContext& context);
#define WEFT_OP_CONSTANT(...)
#define WEFT_VIEW(name, ...) void name(VjpContext& context);
#include <weft/core/ops.def>
}  // namespace vjp

namespace {

constexpr OpInfo kRows[] = {
#define WEFT_OP(name, arity, outs, rule, saves, traits, optional) \
  OpInfo{#name, arity, outs, saves, traits, optional, infer::rule, vjp::name},
#define WEFT_OP_CONSTANT(name, arity, outs, rule, saves, traits, optional) \
  OpInfo{#name, arity, outs, saves, (traits) | kNotDifferentiable, optional, infer::rule, nullptr},
#include <weft/core/ops.def>
};

struct Registered {
  OpInfo info;
  OpKernels kernels;
};

// Rows that programs added. A deque keeps references valid while it grows.
struct Registry {
  std::shared_mutex mutex;
  std::deque<Registered> rows;
};
Registry& registry() {
  static Registry instance;
  return instance;
}

const Registered& registered(OpId op) {
  Registry& r = registry();
  const std::shared_lock lock(r.mutex);
  const size_t index = static_cast<size_t>(op) - static_cast<size_t>(OpId::kCount);
  WEFT_CHECK(ArgumentError, index < r.rows.size(), "op: there is no op number {}",
             static_cast<int>(op));
  return r.rows[index];
}

}  // namespace

const OpInfo& op_info(OpId op) {
  if (op < OpId::kCount) [[likely]]
    return kRows[static_cast<size_t>(op)];
  return registered(op).info;
}

namespace detail {
KernelFn cpu_kernel(OpId op) {
  if (op < OpId::kCount) [[likely]]
    return cpu_kernel_table()[static_cast<size_t>(op)];
  return registered(op).kernels.cpu;
}
}  // namespace detail

std::vector<OpId> all_ops() {
  Registry& r = registry();
  const std::shared_lock lock(r.mutex);
  std::vector<OpId> ops(static_cast<size_t>(OpId::kCount) + r.rows.size());
  for (size_t i = 0; i < ops.size(); ++i) ops[i] = static_cast<OpId>(i);
  return ops;
}

OpId find_op(const std::string& name) {
  std::vector<std::string> names;
  for (const OpId op : all_ops()) {
    if (name == op_info(op).name) return op;
    names.emplace_back(op_info(op).name);
  }
  detail::fail<ArgumentError>("op: there is no op \"{}\"; did you mean \"{}\"?", name,
                              detail::nearest(name, names));
}

OpId register_op(const OpInfo& info, const OpKernels& kernels) {
  const std::string name = info.name == nullptr ? "" : info.name;
  WEFT_CHECK(ArgumentError, !name.empty(), "register_op: the op needs a name");
  for (const OpId op : all_ops())
    WEFT_CHECK(ArgumentError, name != op_info(op).name,
               "register_op: there is an op \"{}\" already", name);
  WEFT_CHECK(ArgumentError, info.infer != nullptr,
             "register_op: op \"{}\" has no shape rule (infer)", name);
  WEFT_CHECK(ArgumentError, info.outputs >= 1, "register_op: op \"{}\" has {} outputs; at least 1",
             name, info.outputs);
  WEFT_CHECK(ArgumentError, (info.traits & kViewOp) || kernels.cpu != nullptr,
             "register_op: op \"{}\" has no kernel for cpu", name);
  WEFT_CHECK(ArgumentError, (info.traits & kNotDifferentiable) || info.vjp != nullptr,
             "register_op: op \"{}\" has no formula; give one or set kNotDifferentiable", name);
  Registry& r = registry();
  const std::unique_lock lock(r.mutex);
  r.rows.push_back({info, kernels});
  return static_cast<OpId>(static_cast<size_t>(OpId::kCount) + r.rows.size() - 1);
}

}  // namespace weft::inline v0
