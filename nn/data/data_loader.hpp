// Batches of a dataset, in a seeded order, made ahead of time by worker threads.
#pragma once

#include <cstdint>
#include <functional>
#include <iterator>
#include <memory>
#include <vector>

#include <weft/nn/data/dataset.hpp>
#include <weft/nn/data/order.hpp>

namespace weft::inline v0::data {

struct DataLoaderOptions {
  int64_t batch_size = 1;
  bool shuffle = false;
  uint64_t seed = 0;
  int num_workers = 0;      ///< threads that make batches ahead; 0: the caller makes them
  int prefetch_factor = 2;  ///< batches that each worker may be ahead
  bool drop_last = false;   ///< leave a last batch out that is not full
  /// Changes each example before it is put into a batch (augmentation); may be called from several
  /// threads. Its random numbers depend on seed, epoch and example alone.
  std::function<Example(Example, ExampleRandom&)> transform = nullptr;
};

/// The batch that a loop is at.
struct BatchInfo {
  int64_t count = 0;           ///< its examples on this rank
  int64_t global_count = 0;    ///< on all ranks together; 0 when the loop is over
  bool is_last = false;        ///< of the epoch
  const void* loop = nullptr;  ///< tells loops that are under way at the same time apart
};

namespace detail {
class LoaderPass;
}

/// Iterable, once per epoch: `for (auto& [inputs, targets] : loader)`. The order is a function of
/// (seed, epoch, position). The dataset must outlive it. An exception of a worker comes out of the
/// loop, once, as the same type of weft's (else as Error), with the batch and the worker in its
/// text.
class WEFT_API DataLoader {
 public:
  /// Throws ArgumentError for options out of range.
  DataLoader(const Dataset& dataset, DataLoaderOptions options = {});
  ~DataLoader();
  DataLoader(DataLoader&&) noexcept;
  DataLoader& operator=(DataLoader&&) noexcept;

  /// Batches of an epoch, for this rank.
  int64_t size() const;
  /// Examples of an epoch, over all ranks.
  int64_t example_count() const;
  const Dataset& dataset() const { return *dataset_; }
  const DataLoaderOptions& options() const { return options_; }

  /// The number of the next epoch; it rises by one with each loop.
  void set_epoch(uint64_t epoch) { epoch_ = epoch; }
  uint64_t epoch() const { return epoch_; }

  /// Gives this loader part `rank` of `world`. Batches of all ranks together are consecutive in the
  /// order: with `split_batches`, batch_size is the size of that global batch, which the ranks
  /// share (it must be a multiple of world); without, each rank has batch_size of its own. No
  /// example is repeated: the parts of a last batch may differ by one, and be empty. Throws
  /// ArgumentError unless 0 <= rank < world.
  void shard(int64_t rank, int64_t world, bool split_batches = false);
  /// The part that shard() gave.
  int64_t rank() const { return rank_; }
  int64_t world() const { return world_; }
  bool splits_batches() const { return split_batches_; }
  /// Batches are moved to `device`.
  void to(Device device) { device_ = device; }
  Device device() const { return device_; }
  /// Is told of each batch that a loop begun from now on comes to, and of the loop's end (a
  /// failure and a loop left early included), once. An empty function takes it away.
  void set_observer(std::function<void(const BatchInfo&)> observer) {
    observer_ = std::move(observer);
  }
  const std::function<void(const BatchInfo&)>& observer() const { return observer_; }

  class Iterator {
   public:
    using difference_type = std::ptrdiff_t;
    using value_type = Example;
    explicit Iterator(std::shared_ptr<detail::LoaderPass> pass);
    Example& operator*() const;
    Example* operator->() const { return &**this; }
    Iterator& operator++();
    bool operator==(std::default_sentinel_t) const;

   private:
    std::shared_ptr<detail::LoaderPass> pass_;
  };
  /// Starts an epoch.
  Iterator begin();
  std::default_sentinel_t end() const { return {}; }

 private:
  const Dataset* dataset_;
  DataLoaderOptions options_;
  uint64_t epoch_ = 0;
  int64_t rank_ = 0, world_ = 1;
  bool split_batches_ = false;
  Device device_ = Device::cpu();
  std::function<void(const BatchInfo&)> observer_;
};

}  // namespace weft::inline v0::data
