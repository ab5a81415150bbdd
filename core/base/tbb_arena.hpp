// oneTBB behind one file: the threads that loops run on.
#pragma once

#include <cstdint>
#include <memory>

namespace weft::inline v0::detail {

/// A number of threads, the caller's included, and the loops that they share.
class TbbArena {
 public:
  /// `worker` is called on each worker thread that starts or stops to work here.
  TbbArena(int threads, void (*worker)(bool starts));
  ~TbbArena();
  TbbArena(const TbbArena&) = delete;
  TbbArena& operator=(const TbbArena&) = delete;

  /// Calls body(context, i) for each i in [0, count), on several threads at a time; rethrows what a
  /// body throws. `context` is one loop's own. See Note [Parallel loops].
  void run(int64_t count, void (*body)(void* context, int64_t i), void* context);

 private:
  struct Threads;
  std::unique_ptr<Threads> threads_;
};

}  // namespace weft::inline v0::detail
