// The front of weft::dist: one training loop for one process and for many.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <weft/core/tensor.hpp>
#include <weft/dist/comm/group.hpp>

namespace weft::inline v0 {

namespace nn {
class Module;
}
namespace optim {
class Optimizer;
class Schedule;
}  // namespace optim
namespace data {
class DataLoader;
}

struct AcceleratorOptions {
  /// (optional) "no": the model's own dtypes. Others throw ArgumentError in this version. Unset:
  /// what the launcher says (WEFT_MIXED_PRECISION, else ACCELERATE_MIXED_PRECISION), else "no".
  std::optional<std::string> mixed_precision = {};
  /// (optional) micro-batches whose gradients add up to one step; see accumulate(). Unset: what the
  /// launcher says (WEFT_GRADIENT_ACCUMULATION_STEPS, else the same of ACCELERATE_), else 1.
  std::optional<int64_t> gradient_accumulation_steps = {};
  /// A prepared loader's batch_size counts over all ranks; else each rank has as many.
  bool split_batches = false;
  Device device = Device::cpu();  ///< where prepared models and batches go
  /// (optional) a group to work in; else the one that the process was launched in
  std::optional<dist::Group> group = {};
};

namespace detail {

/// One argument of Accelerator::prepare and release.
struct Preparable {
  nn::Module* module = nullptr;
  optim::Optimizer* optimizer = nullptr;
  data::DataLoader* loader = nullptr;
  optim::Schedule* schedule = nullptr;
  Preparable(nn::Module& value) : module(&value) {}
  Preparable(optim::Optimizer& value) : optimizer(&value) {}
  Preparable(data::DataLoader& value) : loader(&value) {}
  Preparable(optim::Schedule& value) : schedule(&value) {}
};

}  // namespace detail

/// Reads how the process was launched and makes a training loop work on any number of ranks:
///
///     Accelerator accelerator;
///     accelerator.prepare(net, optimizer, loader, scheduler);
///     for (auto& [inputs, targets] : loader) {
///       optimizer.zero_grad();
///       accelerator.backward(mse_loss(net(inputs), targets));
///       optimizer.step();
///       scheduler.step();
///     }
///
/// Every rank makes the same calls. Names follow Hugging Face Accelerate; objects are changed in
/// place and never wrapped. Models, optimizers, loaders and the Accelerator may end in any order;
/// with the Accelerator, gradients are no longer averaged.
class WEFT_API Accelerator {
 public:
  /// Joins the group. Throws ArgumentError for options out of range, and as init_process_group.
  explicit Accelerator(AcceleratorOptions options = {});
  ~Accelerator();
  Accelerator(const Accelerator&) = delete;
  Accelerator& operator=(const Accelerator&) = delete;

  Device device() const;
  int process_index() const;        ///< rank among all
  int local_process_index() const;  ///< rank on this host
  int num_processes() const;
  bool is_main_process() const { return process_index() == 0; }
  bool is_local_main_process() const { return local_process_index() == 0; }
  bool is_last_process() const { return process_index() == num_processes() - 1; }
  const dist::Group& group() const;

  /// Returns when every rank has called it.
  void wait_for_everyone() const;
  /// Writes a line to stdout, on the main process alone.
  void print(std::string_view line) const;

  /// Runs `body` on one process alone; it must make no collective call.
  template <class Body>
  void on_main_process(Body&& body) const {
    if (is_main_process()) body();
  }
  template <class Body>
  void on_local_main_process(Body&& body) const {  ///< on one process of each host
    if (is_local_main_process()) body();
  }
  template <class Body>
  void on_last_process(Body&& body) const {
    if (is_last_process()) body();
  }
  template <class Body>
  void on_process(int index, Body&& body) const {
    if (process_index() == index) body();
  }

  /// Runs `body` on the main process, then on all others, and returns what it returns: the first
  /// fills a cache, which the others read. Every rank calls it; `body` must make no collective
  /// call. Where it throws on the main process, it does not run on the others: they throw Error
  /// with the text.
  template <class Body>
  auto main_process_first(Body&& body) const {
    return first(is_main_process(), "main_process_first", body);
  }
  /// The same with the main process of each host.
  template <class Body>
  auto local_main_process_first(Body&& body) const {
    return first(is_local_main_process(), "local_main_process_first", body);
  }

  /// This rank's part of `items` (of each value of a map, of a tensor's first dim), in order; the
  /// first `size % num_processes` ranks get one more. With `apply_padding` the parts are equally
  /// long: the last item is repeated, so that the parts can be gathered.
  template <class T>
  std::vector<T> split_between_processes(const std::vector<T>& items,
                                         bool apply_padding = false) const {
    const Part part = part_of(static_cast<int64_t>(items.size()), apply_padding);
    std::vector<T> result(items.begin() + part.start, items.begin() + part.start + part.count);
    for (int64_t i = 0; i < part.padding; ++i) result.push_back(items.back());
    return result;
  }
  Tensor split_between_processes(const Tensor& tensor, bool apply_padding = false) const;
  template <class T>
  std::map<std::string, T> split_between_processes(const std::map<std::string, T>& items,
                                                   bool apply_padding = false) const {
    std::map<std::string, T> result;
    for (const auto& [name, value] : items)
      result.emplace(name, split_between_processes(value, apply_padding));
    return result;
  }

  /// Gives every rank the main process's default generator state, so that the next random numbers
  /// are the same on all. A collective.
  void synchronize_rng_states() const;

  /// Prepares modules, optimizers, loaders and schedules, in any order and in place: models go to
  /// device(), get rank 0's parameters and buffers, and have their gradients averaged; loaders
  /// yield this rank's part, on device(); optimizers and schedules wait while gradients accumulate.
  /// All or nothing, on all ranks: where it throws, nothing is installed. Throws ArgumentError for
  /// what is prepared already, a model on meta, a batch that does not split, and where the ranks'
  /// models differ.
  template <class... Objects>
  void prepare(Objects&... objects) {
    prepare_all({detail::Preparable(objects)...});
  }

  /// Undoes prepare for these objects; those that were not prepared stay as they are.
  template <class... Objects>
  void release(Objects&... objects) {
    release_all({detail::Preparable(objects)...});
  }

  /// The model itself: nothing is ever wrapped around it.
  template <class Model>
  Model& unwrap_model(Model& model) const {
    return model;
  }

  /// Backward of `loss`, the mean over this rank's examples of the batch: divided by the
  /// accumulation steps and weighted by the rank's part of the batch, so that ranks with fewer
  /// examples, or none, count accordingly. With several prepared models a loss must reach the same
  /// ones on all ranks.
  void backward(const Tensor& loss);

  /// While a guard lives (a loop body), the body is one micro-batch: only the last of
  /// gradient_accumulation_steps, or of the epoch, averages gradients, and step() and zero_grad()
  /// of prepared optimizers and schedules take effect once per cycle, wherever in the body they
  /// stand.
  class WEFT_API Accumulation {
   public:
    explicit Accumulation(Accelerator& accelerator);
    ~Accumulation();
    Accumulation(const Accumulation&) = delete;
    Accumulation& operator=(const Accumulation&) = delete;

   private:
    Accelerator& accelerator_;
  };
  [[nodiscard]] Accumulation accumulate() { return Accumulation(*this); }
  /// The same; the models are named for readers alone.
  template <class... Models>
  [[nodiscard]] Accumulation accumulate(Models&...) {
    return Accumulation(*this);
  }
  /// Whether this micro-batch is the one that steps.
  bool sync_gradients() const;

  /// Limits the common norm of the gradients where they are averaged (not while they accumulate)
  /// and returns it; an undefined tensor where it did nothing.
  Tensor clip_grad_norm_(const std::vector<Tensor>& parameters, double max_norm,
                         double norm_type = 2.0);

  /// All ranks' tensors (equal shapes), one after the other along the first dim; 0-d ones become
  /// [num_processes].
  Tensor gather(const Tensor& tensor) const;

  /// As gather, but first sizes may differ between the ranks, as in the last batch of an epoch:
  /// each example comes once, in the order of the loader. One tensor for one argument, else a
  /// tuple.
  template <class... Tensors>
  auto gather_for_metrics(const Tensor& first, const Tensors&... rest) const {
    if constexpr (sizeof...(rest) == 0)
      return gather_uneven(first);
    else
      return std::tuple(gather_uneven(first), gather_uneven(rest)...);
  }

  /// `tensor` with `pad_index` behind its elements along `dim` (before them with `pad_first`), so
  /// that it is as long as the longest of the ranks; the tensor itself where it is so already. The
  /// other dims must agree. Throws ArgumentError for a dim that it does not have.
  Tensor pad_across_processes(const Tensor& tensor, int64_t dim = 0, double pad_index = 0,
                              bool pad_first = false) const;

  /// "sum" or "mean" of the ranks' tensors, as a new tensor. Throws ArgumentError for another word.
  Tensor reduce(const Tensor& tensor, const std::string& reduction = "sum") const;

  /// The mean of a value that is itself a mean over this rank's examples of the current batch (a
  /// loss): each rank counts as its examples do.
  Tensor average(const Tensor& value) const;

  /// Raises a flag on this rank; check_trigger() is true on all ranks where any has raised it,
  /// once.
  void set_trigger();
  bool check_trigger();

  /// Whether any rank has been asked to stop by SIGTERM, SIGUSR1 or SIGUSR2, agreed by all ranks
  /// (dist/stop.hpp). Call it once a step, and leave the loop where it is true.
  bool stop_requested() const;

 private:
  struct State;
  void prepare_all(const std::vector<detail::Preparable>& objects);
  void release_all(const std::vector<detail::Preparable>& objects);

  struct Part {
    int64_t start, count, padding;
  };
  Part part_of(int64_t size, bool apply_padding) const;
  void run_in_order(bool first, const char* op, const std::function<void()>& body) const;
  template <class Body>
  auto first(bool is_first, const char* op, Body& body) const {
    if constexpr (std::is_void_v<std::invoke_result_t<Body&>>) {
      run_in_order(is_first, op, [&] { body(); });
    } else {
      std::optional<std::invoke_result_t<Body&>> result;
      run_in_order(is_first, op, [&] { result.emplace(body()); });
      return *std::move(result);
    }
  }

  Tensor gather_uneven(const Tensor& tensor) const;

  std::shared_ptr<State> state_;
};

}  // namespace weft::inline v0
