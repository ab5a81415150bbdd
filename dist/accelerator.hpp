// The front of weft::dist: one training loop for one process and for many.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
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
  /// "no": the model's own dtypes. Others throw ArgumentError in this version.
  std::string mixed_precision = "no";
  /// Micro-batches whose gradients add up to one step; see accumulate().
  int64_t gradient_accumulation_steps = 1;
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
  const dist::Group& group() const;

  /// Returns when every rank has called it.
  void wait_for_everyone() const;
  /// Writes a line to stdout, on the main process alone.
  void print(std::string_view line) const;

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

  /// "sum" or "mean" of the ranks' tensors, as a new tensor. Throws ArgumentError for another word.
  Tensor reduce(const Tensor& tensor, const std::string& reduction = "sum") const;

  /// The mean of a value that is itself a mean over this rank's examples of the current batch (a
  /// loss): each rank counts as its examples do.
  Tensor average(const Tensor& value) const;

  /// Raises a flag on this rank; check_trigger() is true on all ranks where any has raised it,
  /// once.
  void set_trigger();
  bool check_trigger();

 private:
  struct State;
  void prepare_all(const std::vector<detail::Preparable>& objects);
  void release_all(const std::vector<detail::Preparable>& objects);
  Tensor gather_uneven(const Tensor& tensor) const;

  std::shared_ptr<State> state_;
};

}  // namespace weft::inline v0
