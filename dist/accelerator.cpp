#include <weft/dist/accelerator.hpp>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <functional>
#include <optional>
#include <utility>

#include <weft/autograd/autograd.hpp>
#include <weft/core/base/check.hpp>
#include <weft/core/base/env.hpp>
#include <weft/core/ops.hpp>
#include <weft/dist/parallel/reducer.hpp>
#include <weft/dist/stop.hpp>
#include <weft/dist/store/place.hpp>
#include <weft/nn/data/data_loader.hpp>
#include <weft/nn/module.hpp>
#include <weft/nn/optim/clip.hpp>
#include <weft/nn/optim/optimizer.hpp>
#include <weft/nn/optim/schedules.hpp>

namespace weft::inline v0 {

using detail::Preparable;

namespace {

/// What prepare installed for one model. The parameters tell whether a module at the same address
/// is still the same one: while this holds them, no other tensor can be at theirs.
struct Attachment {
  const nn::Module* module;
  std::vector<Tensor> parameters;
  std::unique_ptr<dist::GradReducer> reducer;

  bool is_of(const nn::Module& other) const {
    const std::vector<Tensor> its = other.parameters();
    return module == &other &&
           std::equal(its.begin(), its.end(), parameters.begin(), parameters.end(),
                      [](const Tensor& a, const Tensor& b) { return a.is_same(b); });
  }
};

std::vector<Tensor> trainable(const std::vector<Tensor>& parameters) {
  std::vector<Tensor> result;
  for (const Tensor& parameter : parameters)
    if (parameter.requires_grad()) result.push_back(parameter);
  return result;
}

/// What the code leaves open is the launcher's to say: the code goes before the environment.
void settle_options(AcceleratorOptions& options) {
  if (!options.mixed_precision) options.mixed_precision = env::get("WEFT_MIXED_PRECISION");
  if (!options.mixed_precision) options.mixed_precision = env::get("ACCELERATE_MIXED_PRECISION");
  if (!options.mixed_precision) options.mixed_precision = "no";
  WEFT_CHECK(ArgumentError, options.mixed_precision == "no",
             "Accelerator: mixed_precision '{}' is not supported by this version; use \"no\"",
             *options.mixed_precision);
  constexpr int64_t kMost = (int64_t{1} << 31) - 1;
  std::optional<int64_t>& steps = options.gradient_accumulation_steps;
  if (!steps) steps = env::get_int("WEFT_GRADIENT_ACCUMULATION_STEPS", 1, kMost);
  if (!steps) steps = env::get_int("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", 1, kMost);
  if (!steps) steps = 1;
  WEFT_CHECK(ArgumentError, *steps >= 1, "Accelerator: gradient_accumulation_steps {} is below 1",
             *steps);
}

}  // namespace

// Shared with what is installed in optimizers and loaders, which may outlive the Accelerator.
struct Accelerator::State {
  // Note [Hooks]
  // What prepare installs in an optimizer or a loader carries what was there before, and says by
  // its type that the object is prepared. So the record moves and ends with the object, and release
  // knows what it may change.
  struct Gate {
    std::shared_ptr<State> state;
    std::function<bool()> before;
    bool operator()() const { return (!before || before()) && state->gate_is_open(); }
  };
  struct Observer {
    std::shared_ptr<State> state;
    std::function<void(const data::BatchInfo&)> before;
    Device device;
    int64_t rank, world;
    bool split_batches;
    void operator()(const data::BatchInfo& info) const {
      if (before) before(info);
      state->observe(info);
    }
  };

  static const Gate* hook_of(const optim::Optimizer& optimizer) {
    return optimizer.gate().target<Gate>();
  }
  static const Observer* hook_of(const data::DataLoader& loader) {
    return loader.observer().target<Observer>();
  }

  static void take_off(optim::Optimizer& optimizer) {
    const Gate hook = *hook_of(optimizer);
    optimizer.set_gate(hook.before);
  }
  static void take_off(data::DataLoader& loader) {
    const Observer hook = *hook_of(loader);
    loader.shard(hook.rank, hook.world, hook.split_batches);
    loader.to(hook.device);
    loader.set_observer(hook.before);
  }

  AcceleratorOptions options;
  dist::Group group;
  std::vector<Attachment> attachments;
  bool ended = false;  ///< the Accelerator; what it installed may be replaced

  /// Where each loop under way over a prepared loader is, the innermost last: an evaluation loop in
  /// the body of a training loop leaves that one's batch as it was.
  std::vector<data::BatchInfo> loops;
  bool triggered = false;

  // Note [Accumulation]
  // A cycle is the micro-batches whose gradients add up to one step; `waiting` says that earlier
  // ones of the cycle have left gradients. In a micro-batch that syncs, step() must work and, after
  // it, zero_grad(); but a zero_grad() before backward, at the top of the body, must work in the
  // first micro-batch of a cycle alone, else it would drop what the others left. So the gate is
  // open before this micro-batch's backward while nothing waits, and after it if it syncs.
  bool in_micro_batch = false;
  bool sync = true;
  bool waiting = false;
  bool went_backward = false;
  int64_t micro_batches = 0;  ///< of the cycle, this one included

  explicit State(AcceleratorOptions its_options)
      : options(std::move(its_options)),
        group(options.group ? *options.group : dist::init_process_group()) {}

  bool gate_is_open() const {
    if (!in_micro_batch) return true;
    return went_backward ? sync : !waiting;
  }

  data::BatchInfo batch() const { return loops.empty() ? data::BatchInfo{} : loops.back(); }

  /// What prepared loaders tell of their loops.
  void observe(const data::BatchInfo& info) {
    const auto same = [&](const data::BatchInfo& other) { return other.loop == info.loop; };
    if (info.global_count == 0) {
      std::erase_if(loops, same);
      return;
    }
    const auto loop = std::find_if(loops.begin(), loops.end(), same);
    if (loop == loops.end())
      loops.push_back(info);
    else
      *loop = info;
  }

  void start_micro_batch() {
    ++micro_batches;
    sync = micro_batches >= *options.gradient_accumulation_steps || batch().is_last;
    in_micro_batch = true;
    went_backward = false;
    for (Attachment& attachment : attachments) attachment.reducer->set_sync(sync);
  }

  void end_micro_batch() {
    waiting = !sync && (waiting || went_backward);
    if (sync) micro_batches = 0;
    in_micro_batch = went_backward = false;
    sync = true;
    for (Attachment& attachment : attachments) attachment.reducer->set_sync(true);
  }

  /// What makes the plain average over the ranks the mean over all examples of the batch.
  double weight() const {
    const data::BatchInfo now = batch();
    if (now.global_count == 0) return 1;
    return static_cast<double>(now.count) * group.size() / static_cast<double>(now.global_count);
  }

  Attachment* find(const nn::Module& module) {
    for (Attachment& attachment : attachments)
      if (attachment.is_of(module)) return &attachment;
    return nullptr;
  }

  template <class Object>
  static void check_free(const Object* object, const char* word) {
    if (object == nullptr) return;
    const auto* hook = hook_of(*object);
    WEFT_CHECK(ArgumentError, hook == nullptr || hook->state->ended,
               "prepare: this {} is prepared already; release it first", word);
  }

  template <class Object>
  static void check_once(const Object* a, const Object* b, const char* word) {
    WEFT_CHECK(ArgumentError, a == nullptr || a != b,
               "prepare: this {} is given twice; name it once", word);
  }

  static void install(const std::shared_ptr<State>& state, optim::Optimizer& optimizer) {
    if (hook_of(optimizer) != nullptr) take_off(optimizer);
    optimizer.set_gate(Gate{state, optimizer.gate()});
  }

  static void install(const std::shared_ptr<State>& state, data::DataLoader& loader) {
    if (hook_of(loader) != nullptr) take_off(loader);
    Observer hook{state,         loader.observer(), loader.device(),
                  loader.rank(), loader.world(),    loader.splits_batches()};
    loader.shard(state->group.rank(), state->group.size(), state->options.split_batches);
    loader.to(state->options.device);
    loader.set_observer(std::move(hook));
  }

  template <class Object>
  void release(Object* object) const {
    if (object == nullptr) return;
    const auto* hook = hook_of(*object);
    if (hook != nullptr && hook->state.get() == this) take_off(*object);
  }

  /// Everything that one rank alone can tell.
  void check(const std::vector<Preparable>& objects) {
    for (size_t i = 0; i < objects.size(); ++i) {
      const Preparable& object = objects[i];
      if (object.loader != nullptr)
        WEFT_CHECK(
            ArgumentError,
            !options.split_batches || object.loader->options().batch_size % group.size() == 0,
            "prepare: a batch of {} cannot be split evenly over {} ranks",
            object.loader->options().batch_size, group.size());
      check_free(object.optimizer, "optimizer");
      check_free(object.loader, "loader");
      for (size_t j = 0; j < i; ++j) {
        check_once(object.optimizer, objects[j].optimizer, "optimizer");
        check_once(object.loader, objects[j].loader, "loader");
      }
      if (object.module == nullptr) continue;
      bool twice = find(*object.module) != nullptr;
      for (size_t j = 0; j < i; ++j) twice |= objects[j].module == object.module;
      WEFT_CHECK(ArgumentError, !twice, "prepare: this {} is prepared already; release it first",
                 object.module->type_name());
      for (const auto& [name, parameter] : object.module->named_parameters())
        WEFT_CHECK(ArgumentError, !parameter.device().is_meta(),
                   "prepare: parameter '{}' of this {} is on meta; load or materialise it first",
                   name, object.module->type_name());
    }
  }

  /// Throws on all ranks where `failure` is set on any.
  void agree(const std::exception_ptr& failure) const {
    const Tensor failed = full({group.size()}, 0, {.dtype = DType::u8});
    if (failure) failed.select(0, group.rank()).fill_(1);
    try {
      group.all_reduce(failed, dist::ReduceOp::max);
    } catch (const CommError&) {
      if (failure) std::rethrow_exception(failure);  // the cause, where the group has ended
      throw;
    }
    if (failure) std::rethrow_exception(failure);
    const std::vector<uint8_t> flags = failed.to_vector<uint8_t>();
    for (size_t r = 0; r < flags.size(); ++r)
      WEFT_CHECK(ArgumentError, flags[r] == 0, "prepare: rank {} failed; its error says why", r);
  }

  /// Makes `step` on all ranks, and throws on all where it fails on any: a rank that threw alone
  /// would leave the others waiting in the step after.
  template <class Step>
  void together(Step&& step) const {
    std::exception_ptr failure;
    try {
      step();
    } catch (...) {
      failure = std::current_exception();  // thrown by agree(), after the other ranks know
    }
    agree(failure);
  }

  /// Brings a model to the device; returns where it was, if that was one other device.
  std::optional<Device> move(nn::Module& module) const {
    std::optional<Device> before;
    bool one = true, moves = false;
    for (const Tensor& parameter : module.parameters()) {
      one = one && (!before || *before == parameter.device());
      before = parameter.device();
      moves = moves || parameter.device() != options.device;
    }
    if (!moves) return std::nullopt;
    module.to(options.device);
    return one ? before : std::nullopt;
  }

  Attachment attach(nn::Module& module) const {
    Attachment attachment{&module, module.parameters(), nullptr};
    attachment.reducer =
        std::make_unique<dist::GradReducer>(trainable(attachment.parameters), group);
    return attachment;
  }

  void share_values(const nn::Module& module) const {
    dist::broadcast_tensors(module.parameters(), group);
    std::vector<Tensor> buffers;
    for (const auto& [name, buffer] : module.named_buffers()) buffers.push_back(buffer);
    dist::broadcast_tensors(buffers, group);
  }
};

Accelerator::Accelerator(AcceleratorOptions options) {
  settle_options(options);
  state_ = std::make_shared<State>(std::move(options));
}

Accelerator::~Accelerator() {
  state_->ended = true;
  state_->in_micro_batch = false;  // what is installed in optimizers stays open
  state_->attachments.clear();
}

Device Accelerator::device() const { return state_->options.device; }
int Accelerator::process_index() const { return state_->group.rank(); }
int Accelerator::num_processes() const { return state_->group.size(); }
const dist::Group& Accelerator::group() const { return state_->group; }
bool Accelerator::sync_gradients() const { return state_->sync; }

int Accelerator::local_process_index() const {
  // Of a group given by the caller no more is known than its ranks.
  if (state_->options.group) return process_index();
  return dist::place_from_environment().local_rank;
}

void Accelerator::wait_for_everyone() const { state_->group.barrier(); }

void Accelerator::print(std::string_view line) const {
  if (!is_main_process()) return;
  std::printf("%.*s\n", static_cast<int>(line.size()), line.data());
  std::fflush(stdout);
}

void Accelerator::prepare_all(const std::vector<Preparable>& objects) {
  State& state = *state_;
  state.together([&] { state.check(objects); });
  std::vector<nn::Module*> modules;
  for (const Preparable& object : objects)
    if (object.module != nullptr) modules.push_back(object.module);
  std::vector<std::pair<nn::Module*, Device>> moved;
  std::vector<Attachment> attachments;  // a reducer that is dropped takes itself out
  try {
    state.together([&] {
      for (nn::Module* module : modules)
        if (const auto before = state.move(*module)) moved.emplace_back(module, *before);
    });
    for (nn::Module* module : modules)
      state.together([&] { attachments.push_back(state.attach(*module)); });
    state.together([&] {
      for (const nn::Module* module : modules) state.share_values(*module);
    });
  } catch (...) {
    attachments.clear();
    for (const auto& [module, before] : moved) module->to(before);
    throw;
  }
  for (Attachment& attachment : attachments) state.attachments.push_back(std::move(attachment));
  for (const Preparable& object : objects) {
    if (object.optimizer != nullptr) State::install(state_, *object.optimizer);
    if (object.loader != nullptr) State::install(state_, *object.loader);
  }
}

void Accelerator::release_all(const std::vector<Preparable>& objects) {
  for (const Preparable& object : objects) {
    if (object.module != nullptr)
      std::erase_if(state_->attachments,
                    [&](const Attachment& attachment) { return attachment.is_of(*object.module); });
    state_->release(object.optimizer);
    state_->release(object.loader);
  }
}

void Accelerator::backward(const Tensor& loss) {
  State& state = *state_;
  state.went_backward = true;
  const double scale =
      state.weight() / static_cast<double>(*state.options.gradient_accumulation_steps);
  // With one model, a rank without examples takes part without a loss of its own.
  if (scale == 0 && state.attachments.size() == 1) {
    if (state.sync) state.attachments[0].reducer->reduce_without_backward();
    return;
  }
  const Tensor scaled = scale == 1 ? loss : loss * scale;
  if (state.attachments.size() == 1)
    state.attachments[0].reducer->backward(scaled);
  else
    scaled.backward();
}

Accelerator::Accumulation::Accumulation(Accelerator& accelerator) : accelerator_(accelerator) {
  accelerator_.state_->start_micro_batch();
}
Accelerator::Accumulation::~Accumulation() { accelerator_.state_->end_micro_batch(); }

Tensor Accelerator::clip_grad_norm_(const std::vector<Tensor>& parameters, double max_norm,
                                    double norm_type) {
  if (!state_->sync) return Tensor();
  return nn::clip_grad_norm_(parameters, max_norm, {.norm_type = norm_type});
}

Tensor Accelerator::gather(const Tensor& tensor) const {
  const NoGrad guard;
  const Tensor rows = state_->group.all_gather(tensor);
  return tensor.dim() == 0 ? rows : rows.flatten(0, 1);
}

Tensor Accelerator::gather_uneven(const Tensor& value) const {
  if (value.dim() == 0) return gather(value);
  const NoGrad guard;
  const dist::Group& group = state_->group;
  const std::vector<int64_t> counts =
      group.all_gather(tensor({value.size(0)})).to_vector<int64_t>();
  const int64_t largest = *std::max_element(counts.begin(), counts.end());
  if (*std::min_element(counts.begin(), counts.end()) == largest) return gather(value);
  Shape shape = value.shape();
  shape[0] = largest;
  Tensor padded = zeros(shape, {.dtype = value.dtype(), .device = value.device()});
  if (value.size(0) > 0) padded.narrow(0, 0, value.size(0)).copy_(value.detach());
  const Tensor rows = group.all_gather(padded);
  std::vector<Tensor> parts;
  for (size_t r = 0; r < counts.size(); ++r)
    parts.push_back(rows.select(0, static_cast<int64_t>(r)).narrow(0, 0, counts[r]));
  return cat(parts);
}

Tensor Accelerator::reduce(const Tensor& tensor, const std::string& reduction) const {
  WEFT_CHECK(ArgumentError, reduction == "sum" || reduction == "mean",
             "reduce: '{}' is neither \"sum\" nor \"mean\"", reduction);
  const NoGrad guard;
  const Tensor result = tensor.detach().clone();
  state_->group.all_reduce(result, reduction == "sum" ? dist::ReduceOp::sum : dist::ReduceOp::avg);
  return result;
}

Tensor Accelerator::average(const Tensor& value) const {
  const NoGrad guard;
  const double weight = state_->weight();
  // A mean over no examples is NaN, which no factor takes away.
  const Tensor weighted =
      weight == 0 ? zeros(value.shape(), {.dtype = value.dtype(), .device = value.device()})
                  : value.detach() * weight;
  state_->group.all_reduce(weighted, dist::ReduceOp::avg);
  return weighted;
}

void Accelerator::set_trigger() { state_->triggered = true; }

bool Accelerator::check_trigger() {
  const Tensor flag = full({1}, state_->triggered ? 1 : 0, {.dtype = DType::u8});
  state_->group.all_reduce(flag, dist::ReduceOp::max);
  state_->triggered = false;
  return flag.item<int>() != 0;
}

bool Accelerator::stop_requested() const { return dist::stop_requested(state_->group); }

}  // namespace weft::inline v0
