#include <weft/core/base/tbb_arena.hpp>

#include <tbb/blocked_range.h>
#include <tbb/global_control.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>
#include <tbb/task_scheduler_observer.h>

#ifdef WEFT_THREAD_SANITIZER
#include <sanitizer/tsan_interface.h>
#endif

// Note [oneTBB and the thread sanitizer]
// Debian's oneTBB is not instrumented, but half of it lives in its headers: in an instrumented file
// the sanitizer sees a worker's last touch of the caller's stack and not the wait of the caller
// that follows it, and takes the caller's next use of that stack for a race. So this file is
// compiled without the sanitizer (core/meson.build), and tells it what a loop orders: that a
// worker's range comes after what its caller did before the loop, and before what the caller does
// after it.

namespace weft::inline v0::detail {

namespace {

#ifdef WEFT_THREAD_SANITIZER
void pass(void* loop) {
  __tsan_acquire(loop);
  __tsan_release(loop);
}
#else
void pass(void* /*loop*/) {}
#endif

/// Around what one thread does for a loop between two hand-overs.
class Passing {
 public:
  explicit Passing(void* loop) : loop_(loop) { pass(loop_); }
  ~Passing() { pass(loop_); }
  Passing(const Passing&) = delete;
  Passing& operator=(const Passing&) = delete;

 private:
  void* loop_;
};

/// Tells of each worker thread that comes and goes.
class WorkerObserver final : public tbb::task_scheduler_observer {
 public:
  WorkerObserver(tbb::task_arena& arena, void (*worker)(bool starts))
      : tbb::task_scheduler_observer(arena), worker_(worker) {
    observe(true);
  }
  ~WorkerObserver() override { observe(false); }
  void on_scheduler_entry(bool is_worker) override {
    if (is_worker) worker_(true);
  }
  void on_scheduler_exit(bool is_worker) override {
    if (is_worker) worker_(false);
  }

 private:
  void (*worker_)(bool starts);
};

}  // namespace

struct TbbArena::Threads {
  Threads(int count, void (*worker)(bool starts))
      : limit(tbb::global_control::max_allowed_parallelism, static_cast<size_t>(count)),
        arena(count),
        observer(arena, worker) {}
  tbb::global_control limit;  // lets there be more threads than cores where somebody asks for it
  tbb::task_arena arena;
  WorkerObserver observer;
};

TbbArena::TbbArena(int threads, void (*worker)(bool starts))
    : threads_(std::make_unique<Threads>(threads, worker)) {}

TbbArena::~TbbArena() = default;

void TbbArena::run(int64_t count, void (*body)(void* context, int64_t i), void* context) {
  const Passing given(context);
  threads_->arena.execute([&] {
    tbb::this_task_arena::isolate([&] {
      tbb::parallel_for(
          tbb::blocked_range<int64_t>(0, count, 1),
          [&](const tbb::blocked_range<int64_t>& some) {
            const Passing taken(context);
            for (int64_t i = some.begin(); i < some.end(); ++i) body(context, i);
          },
          tbb::simple_partitioner());
    });
  });
}

}  // namespace weft::inline v0::detail
