#include <weft/nn/data/data_loader.hpp>

#include <pthread.h>

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>
#include <thread>

#include <weft/autograd/autograd.hpp>
#include <weft/core/base/check.hpp>
#include <weft/core/ops.hpp>

namespace weft::inline v0::data {

namespace detail {

/// Which examples make up which batch of one epoch, for one rank.
struct Plan {
  const Dataset* dataset;
  DataLoaderOptions options;
  uint64_t epoch;
  int64_t rank, world, global_batch, batches;

  std::vector<int64_t> indices(int64_t batch) const {
    const int64_t n = dataset->size();
    const int64_t start = batch * global_batch;
    const int64_t count = std::min(global_batch, n - start);
    std::vector<int64_t> chosen;
    for (int64_t i = start + count * rank / world; i < start + count * (rank + 1) / world; ++i)
      chosen.push_back(options.shuffle ? permuted_index(options.seed, epoch, n, i) : i);
    return chosen;
  }

  BatchInfo info(int64_t batch) const {
    if (batch >= batches) return {};
    const int64_t all = std::min(global_batch, dataset->size() - batch * global_batch);
    return {all * (rank + 1) / world - all * rank / world, all, batch + 1 == batches};
  }

  Example make(int64_t batch) const {
    const NoGrad guard;
    const std::vector<int64_t> chosen = indices(batch);
    if (chosen.empty()) return nothing();
    if (!options.transform) return dataset->batch(chosen);
    std::vector<Tensor> inputs, targets;
    for (const int64_t index : chosen) {
      ExampleRandom random(options.seed, epoch, index);
      Example example = options.transform(dataset->get(index), random);
      inputs.push_back(std::move(example.inputs));
      targets.push_back(std::move(example.targets));
    }
    return {stack(inputs), stack(targets)};
  }

 private:
  /// This rank's part of a last batch that has fewer examples than there are ranks.
  Example nothing() const {
    const int64_t first = 0;
    const Example one = dataset->batch(std::span(&first, 1));
    return {one.inputs.slice(0, 0, 0), one.targets.slice(0, 0, 0)};
  }
};

/// One loop over a loader: the batches in order, made here or by workers.
class LoaderPass {
 public:
  LoaderPass(Plan plan, Device device, std::function<void(const BatchInfo&)> observer)
      : plan_(std::move(plan)), device_(device), observer_(std::move(observer)) {}

  ~LoaderPass() {
    tell({});  // where the loop was left early
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    for (std::thread& worker : workers_) worker.join();
  }
  LoaderPass(const LoaderPass&) = delete;
  LoaderPass& operator=(const LoaderPass&) = delete;

  /// Behind the constructor, so that a failure still joins the workers that there are.
  void start() {
    const int workers =
        static_cast<int>(std::min<int64_t>(plan_.options.num_workers, plan_.batches));
    for (int i = 0; i < workers; ++i) {
      workers_.emplace_back([this, i] { work(i); });
      pthread_setname_np(workers_.back().native_handle(),
                         ("weft-data" + std::to_string(i)).c_str());
    }
    advance();
  }

  bool done() const { return current_ >= plan_.batches; }
  Example& example() { return example_; }

  void advance() {
    {
      const std::lock_guard lock(mutex_);  // workers look at it
      ++current_;
    }
    example_ = {};
    tell(plan_.info(current_));
    if (done()) return;
    try {
      Example made = workers_.empty() ? make_here() : take();
      const NoGrad guard;
      example_ = {made.inputs.to(device_), made.targets.to(device_)};
    } catch (...) {
      tell({});
      throw;
    }
  }

 private:
  struct Slot {
    Example example;
    std::exception_ptr failure;
    int worker = 0;
  };

  /// The end of the loop is told once, and only where the loop has come to a batch.
  void tell(BatchInfo info) {
    const bool goes_on = info.global_count != 0;
    if (observer_ && (goes_on || watched_)) {
      watched_ = goes_on;
      info.loop = this;
      observer_(info);
    }
  }

  Example make_here() {
    try {
      return plan_.make(current_);
    } catch (...) {
      current_ = plan_.batches;  // the loop is over
      throw;
    }
  }

  void work(int number) {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [&] { return stopping_ || claimed_ >= plan_.batches || may_claim(); });
      if (stopping_ || claimed_ >= plan_.batches) return;
      const int64_t batch = claimed_++;
      lock.unlock();
      Slot slot;
      slot.worker = number;
      try {
        slot.example = plan_.make(batch);
      } catch (...) {
        slot.failure = std::current_exception();  // thrown to the consumer by take()
      }
      lock.lock();
      ready_.emplace(batch, std::move(slot));
      changed_.notify_all();
    }
  }

  bool may_claim() const {
    return claimed_ < current_ + int64_t{plan_.options.prefetch_factor} * plan_.options.num_workers;
  }

  Example take() {
    std::unique_lock lock(mutex_);
    changed_.notify_all();  // `current_` has moved: workers may claim further batches
    changed_.wait(lock, [&] { return ready_.contains(current_); });
    Slot slot = std::move(ready_.at(current_));
    ready_.erase(current_);
    const int64_t batch = current_;
    if (slot.failure) {
      current_ = plan_.batches;
      stopping_ = true;
    }
    lock.unlock();
    if (slot.failure) fail(slot, batch);
    return std::move(slot.example);
  }

  /// Throws what the worker threw, with its place in the text; types outside of weft's become
  /// Error.
  [[noreturn]] static void fail(const Slot& slot, int64_t batch) {
    const auto text = [&](const std::exception& error) {
      return fmt::format("DataLoader: worker {} failed at batch {}: {}", slot.worker, batch,
                         error.what());
    };
    try {
      std::rethrow_exception(slot.failure);
    } catch (const FormatError& error) {
      throw FormatError(error.code(), text(error));
    } catch (const ArgumentError& error) {
      throw ArgumentError(text(error));
    } catch (const DeviceError& error) {
      throw DeviceError(text(error));
    } catch (const OutOfMemory& error) {
      throw OutOfMemory(text(error));
    } catch (const IoError& error) {
      throw IoError(text(error));
    } catch (const std::exception& error) {
      throw Error(text(error));
    }
  }

  const Plan plan_;
  const Device device_;
  const std::function<void(const BatchInfo&)> observer_;
  Example example_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<int64_t, Slot> ready_;
  int64_t current_ = -1, claimed_ = 0;
  bool stopping_ = false;
  bool watched_ = false;  ///< the observer was told of a batch and not of the end
  std::vector<std::thread> workers_;
};

}  // namespace detail

DataLoader::DataLoader(const Dataset& dataset, DataLoaderOptions options)
    : dataset_(&dataset), options_(std::move(options)) {
  WEFT_CHECK(ArgumentError, options_.batch_size >= 1, "DataLoader: batch_size {} is below 1",
             options_.batch_size);
  WEFT_CHECK(ArgumentError, options_.num_workers >= 0, "DataLoader: num_workers {} is below 0",
             options_.num_workers);
  WEFT_CHECK(ArgumentError, options_.prefetch_factor >= 1,
             "DataLoader: prefetch_factor {} is below 1", options_.prefetch_factor);
}

DataLoader::~DataLoader() = default;
DataLoader::DataLoader(DataLoader&&) noexcept = default;
DataLoader& DataLoader::operator=(DataLoader&&) noexcept = default;

void DataLoader::shard(int64_t rank, int64_t world, bool split_batches) {
  WEFT_CHECK(ArgumentError, world >= 1 && rank >= 0 && rank < world,
             "DataLoader: part {} of {} does not exist", rank, world);
  WEFT_CHECK(ArgumentError, !split_batches || options_.batch_size % world == 0,
             "DataLoader: a batch of {} cannot be split evenly over {} ranks", options_.batch_size,
             world);
  rank_ = rank;
  world_ = world;
  split_batches_ = split_batches;
}

int64_t DataLoader::size() const {
  const int64_t global = split_batches_ ? options_.batch_size : options_.batch_size * world_;
  const int64_t n = dataset_->size();
  return options_.drop_last ? n / global : (n + global - 1) / global;
}

int64_t DataLoader::example_count() const {
  const int64_t global = split_batches_ ? options_.batch_size : options_.batch_size * world_;
  return options_.drop_last ? size() * global : dataset_->size();
}

DataLoader::Iterator DataLoader::begin() {
  const int64_t global = split_batches_ ? options_.batch_size : options_.batch_size * world_;
  detail::Plan plan{dataset_, options_, epoch_++, rank_, world_, global, size()};
  auto pass = std::make_shared<detail::LoaderPass>(std::move(plan), device_, observer_);
  pass->start();
  return Iterator(std::move(pass));
}

DataLoader::Iterator::Iterator(std::shared_ptr<detail::LoaderPass> pass) : pass_(std::move(pass)) {}
Example& DataLoader::Iterator::operator*() const { return pass_->example(); }
DataLoader::Iterator& DataLoader::Iterator::operator++() {
  pass_->advance();
  return *this;
}
bool DataLoader::Iterator::operator==(std::default_sentinel_t) const { return pass_->done(); }

}  // namespace weft::inline v0::data
