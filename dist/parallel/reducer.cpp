#include <weft/dist/parallel/reducer.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include <weft/autograd/autograd.hpp>
#include <weft/autograd/leaf.hpp>
#include <weft/core/base/check.hpp>
#include <weft/core/base/log.hpp>
#include <weft/core/op.hpp>
#include <weft/core/ops.hpp>

namespace weft::inline v0::dist {

namespace {

constexpr size_t kAlignment = 64;  // of each gradient in its bucket, in bytes

size_t round_up(size_t value) { return (value + kAlignment - 1) / kAlignment * kAlignment; }

/// Hash of what must agree between the ranks.
int64_t layout_hash(const std::vector<Tensor>& parameters) {
  uint64_t hash = parameters.size();
  for (const Tensor& parameter : parameters)
    hash = detail::fingerprint(hash, 0, {.dtype = parameter.dtype(), .shape = parameter.shape()});
  return static_cast<int64_t>(hash);
}

void check_parameters(const std::vector<Tensor>& parameters, const Group& group) {
  std::unordered_set<const TensorImpl*> seen;
  for (size_t i = 0; i < parameters.size(); ++i) {
    const Tensor& parameter = parameters[i];
    WEFT_CHECK(ArgumentError, parameter.is_leaf() && parameter.requires_grad(),
               "GradReducer: parameter {} of shape {} is no leaf that requires grad", i,
               to_string(parameter.shape()));
    WEFT_CHECK(ArgumentError, seen.insert(parameter.impl()).second,
               "GradReducer: parameter {} of shape {} is listed twice", i,
               to_string(parameter.shape()));
    WEFT_CHECK(ArgumentError, !parameter.device().is_meta(),
               "GradReducer: parameter {} of shape {} is on meta; give it memory first", i,
               to_string(parameter.shape()));
  }
  const std::vector<int64_t> hashes =
      group.all_gather(tensor({layout_hash(parameters)})).to_vector<int64_t>();
  for (size_t r = 0; r < hashes.size(); ++r)
    WEFT_CHECK(ArgumentError, hashes[r] == hashes[0],
               "GradReducer: rank {}'s parameters are not rank 0's (this rank has {}); all ranks "
               "need the same number, shapes and dtypes in the same order",
               r, parameters.size());
}

}  // namespace

struct GradReducer::State : std::enable_shared_from_this<State> {
  struct Slot {
    Tensor parameter;
    Tensor view;  ///< its place in the bucket
    size_t bucket = 0;
    uint64_t hook = 0;
    bool ready = false;    ///< reached by the pass under way
    bool missing = false;  ///< has no gradient on this rank: its place counts as zero
  };
  struct Bucket {
    Tensor flat;
    std::vector<size_t> slots;
    size_t pending = 0;
  };

  /// Ends with the backward pass that holds it, whether that finishes or throws.
  struct PassEnd {
    explicit PassEnd(std::shared_ptr<State> its_state) : state(std::move(its_state)) {}
    ~PassEnd() { state->in_pass = false; }
    PassEnd(const PassEnd&) = delete;
    PassEnd& operator=(const PassEnd&) = delete;
    std::shared_ptr<State> state;
  };

  Group group;
  std::vector<Slot> slots;  ///< in reverse order of the parameters
  std::vector<Bucket> buckets;
  std::optional<double> weight;
  double share = 1;  ///< of this rank in a weighted average
  bool sync = true;
  bool in_pass = false;
  bool reduced = false;  ///< the pass under way, or the last one, was reduced to its end
  size_t next_bucket = 0;

  State(std::vector<Tensor> parameters, Group its_group, const GradReducerOptions& options)
      : group(std::move(its_group)) {
    check_parameters(parameters, group);
    std::reverse(parameters.begin(), parameters.end());
    slots.resize(parameters.size());
    for (size_t i = 0; i < slots.size(); ++i) slots[i].parameter = std::move(parameters[i]);
    plan(options);
    for (Bucket& bucket : buckets) allocate(bucket);
  }

  /// Assigns slots to buckets: one open bucket per dtype and device, closed when it is full.
  void plan(const GradReducerOptions& options) {
    struct Open {
      size_t bucket;
      size_t bytes;
    };
    std::unordered_map<int, Open> open;
    for (size_t i = 0; i < slots.size(); ++i) {
      const Tensor& parameter = slots[i].parameter;
      const Device device = parameter.device();
      const int kind = static_cast<int>(parameter.dtype()) | static_cast<int>(device.type) << 8 |
                       device.index << 16;
      auto place = open.find(kind);
      if (place == open.end()) {
        place = open.insert_or_assign(kind, Open{buckets.size(), 0}).first;
        buckets.emplace_back();
      }
      slots[i].bucket = place->second.bucket;
      buckets[slots[i].bucket].slots.push_back(i);
      place->second.bytes += round_up(static_cast<size_t>(parameter.nbytes()));
      const size_t limit = slots[i].bucket == 0 ? options.first_bucket_bytes : options.bucket_bytes;
      if (place->second.bytes >= limit) open.erase(place);
    }
  }

  void allocate(Bucket& bucket) {
    const Tensor& first = slots[bucket.slots[0]].parameter;
    const DType dtype = first.dtype();
    const int64_t item = size_of(dtype);
    size_t bytes = 0;
    for (const size_t i : bucket.slots)
      bytes += round_up(static_cast<size_t>(slots[i].parameter.nbytes()));
    const int64_t count = static_cast<int64_t>(bytes) / item;
    bucket.flat = first.device().is_cpu()
                      ? tensor_over(group.allocate_shared(bytes), {count}, {1}, 0, dtype)
                      : zeros({count}, {.dtype = dtype, .device = first.device()});
    bucket.flat.zero_();
    int64_t offset = 0;
    for (const size_t i : bucket.slots) {
      const Tensor& parameter = slots[i].parameter;
      slots[i].view = tensor_over(bucket.flat.storage(), parameter.shape(),
                                  contiguous_strides(parameter.shape()), offset, dtype);
      offset += static_cast<int64_t>(round_up(static_cast<size_t>(parameter.nbytes()))) / item;
    }
  }

  void install() {
    for (size_t i = 0; i < slots.size(); ++i) {
      set_grad_buffer(slots[i].parameter, slots[i].view);
      slots[i].hook = add_leaf_hook(slots[i].parameter, [this, i](const Tensor&) { mark(i); });
    }
  }

  ~State() { uninstall(); }

  /// Takes hooks and buffers back; the gradients get memory of their own. Without memory for that
  /// they are dropped, as a destructor may be running.
  void uninstall() noexcept {
    for (Slot& slot : slots) {
      if (slot.hook == 0) continue;
      remove_leaf_hook(slot.parameter, std::exchange(slot.hook, 0));
      try {
        if (grad_buffer(slot.parameter).is_same(slot.view))
          set_grad_buffer(slot.parameter, Tensor());
      } catch (const Error& error) {
        logging::error(fmt::format("GradReducer: a gradient is lost: {}", error.what()));
      }
    }
  }

  void start() {
    for (Slot& slot : slots) slot.ready = slot.missing = false;
    for (Bucket& bucket : buckets) bucket.pending = bucket.slots.size();
    next_bucket = 0;
    reduced = false;
  }

  void enter_pass() {
    start();
    in_pass = true;
    auto end = std::make_shared<PassEnd>(shared_from_this());
    queue_callback([end] { end->state->finish(); });
  }

  /// Slot i's gradient of this pass is complete.
  void mark(size_t i) {
    if (!sync) return;
    if (!in_pass) enter_pass();
    if (slots[i].ready) return;
    slots[i].ready = true;
    --buckets[slots[i].bucket].pending;
    while (next_bucket < buckets.size() && buckets[next_bucket].pending == 0) reduce_next();
  }

  void reduce_next() {
    const NoGrad guard;
    if (next_bucket == 0 && weight) agree_on_share();
    Bucket& bucket = buckets[next_bucket++];
    for (const size_t i : bucket.slots) collect(slots[i]);
    if (weight && share != 1) bucket.flat.mul_(share);
    group.all_reduce(bucket.flat, weight ? ReduceOp::sum : ReduceOp::avg);
    for (const size_t i : bucket.slots) hand_back(slots[i]);
  }

  void agree_on_share() {
    const Tensor total = full({1}, *weight, {.dtype = DType::f64});
    group.all_reduce(total);
    const double sum = total.item<double>();
    share = sum > 0 ? *weight / sum : 0;
  }

  /// Makes the slot's place in the bucket hold its gradient.
  static void collect(Slot& slot) {
    const Tensor grad = slot.parameter.grad();
    slot.missing = !grad.defined();
    if (slot.missing)
      slot.view.zero_();
    else if (!grad.is_same(slot.view))
      slot.view.copy_(grad.detach());
  }

  static void hand_back(const Slot& slot) {
    const Tensor grad = slot.parameter.grad();
    if (grad.defined() && !grad.is_same(slot.view)) grad.detach().copy_(slot.view);
  }

  /// After the last gradient of a pass: what it did not reach, and what only others reached.
  void finish() {
    const NoGrad guard;
    while (next_bucket < buckets.size()) reduce_next();
    std::vector<uint8_t> used;
    for (const Slot& slot : slots) used.push_back(slot.missing ? 0 : 1);
    const Tensor anywhere = from_host(used.data(), {static_cast<int64_t>(used.size())}, DType::u8);
    group.all_reduce(anywhere, ReduceOp::max);
    const std::vector<uint8_t> reached = anywhere.to_vector<uint8_t>();
    for (size_t i = 0; i < slots.size(); ++i)
      if (slots[i].missing && reached[i] != 0) slots[i].parameter.set_grad(slots[i].view);
    reduced = true;
  }
};

GradReducer::GradReducer(std::vector<Tensor> parameters, Group group, GradReducerOptions options)
    : state_(std::make_shared<State>(std::move(parameters), std::move(group), options)) {
  state_->install();
}

GradReducer::~GradReducer() { state_->uninstall(); }

void GradReducer::set_sync(bool sync) { state_->sync = sync; }
bool GradReducer::sync() const { return state_->sync; }

void GradReducer::set_weight(std::optional<double> weight) {
  WEFT_CHECK(ArgumentError, !weight || (std::isfinite(*weight) && *weight >= 0),
             "GradReducer: a weight of {}; give the number of samples", *weight);
  state_->weight = weight;
}

void GradReducer::backward(const Tensor& loss) {
  state_->reduced = false;
  loss.backward();
  if (state_->sync && !state_->reduced) reduce_without_backward();
}

void GradReducer::reduce_without_backward() {
  state_->start();
  state_->finish();
}

size_t GradReducer::bucket_count() const { return state_->buckets.size(); }

void broadcast_tensors(const std::vector<Tensor>& tensors, const Group& group, int root) {
  const NoGrad guard;
  for (const Tensor& tensor : tensors) group.broadcast(tensor, root);
}

}  // namespace weft::inline v0::dist
