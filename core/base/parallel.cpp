#include <weft/core/base/parallel.hpp>

#include <tbb/blocked_range.h>
#include <tbb/global_control.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>
#include <tbb/task_scheduler_observer.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>

#include <weft/core/base/check.hpp>
#include <weft/core/base/cpus.hpp>
#include <weft/core/base/env.hpp>

namespace weft::inline v0 {

namespace {

constexpr int kMostThreads = 1024;

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define WEFT_THREAD_SANITIZER
#endif
#endif
#if defined(__SANITIZE_THREAD__) && !defined(WEFT_THREAD_SANITIZER)
#define WEFT_THREAD_SANITIZER
#endif

// Debian's TBB is not instrumented: that a worker's range comes after what its caller did before
// the loop, and before what the caller does after it, is hidden from the thread sanitizer, which
// took every result of a loop for a race. So it is told, on one word for all loops.
#ifdef WEFT_THREAD_SANITIZER
constinit std::atomic<int> handed_over{0};
void hand_over() { handed_over.fetch_add(1, std::memory_order_acq_rel); }
#else
void hand_over() {}
#endif

std::atomic<void (*)(bool)> worker_hook{nullptr};
constinit thread_local bool inside_loop = false;

int default_threads() {
  if (const auto count = env::get_int("WEFT_NUM_THREADS", 1, kMostThreads))
    return static_cast<int>(*count);
  return std::min(detail::allowed_cpus(), kMostThreads);
}

/// Tells the hook of each worker thread that comes and goes.
class WorkerObserver final : public tbb::task_scheduler_observer {
 public:
  explicit WorkerObserver(tbb::task_arena& arena) : tbb::task_scheduler_observer(arena) {
    observe(true);
  }
  ~WorkerObserver() override { observe(false); }
  void on_scheduler_entry(bool is_worker) override { tell(is_worker, true); }
  void on_scheduler_exit(bool is_worker) override { tell(is_worker, false); }

 private:
  static void tell(bool is_worker, bool starts) {
    void (*hook)(bool) = worker_hook.load(std::memory_order_acquire);
    if (is_worker && hook != nullptr) hook(starts);
  }
};

/// The threads of one setting.
struct Arena {
  explicit Arena(int count)
      : limit(tbb::global_control::max_allowed_parallelism, static_cast<size_t>(count)),
        arena(count),
        observer(arena) {}
  tbb::global_control limit;  // lets there be more threads than cores where somebody asks for it
  tbb::task_arena arena;
  WorkerObserver observer;
};

// Never destroyed: threads of the program may still run loops while it exits.
struct Pool {
  std::mutex mutex;
  std::atomic<int> threads{default_threads()};
  std::shared_ptr<Arena> arena;  // made by the first loop that needs it
};

Pool& pool() {
  static Pool* const instance = std::make_unique<Pool>().release();
  return *instance;
}

std::shared_ptr<Arena> current_arena() {
  Pool& p = pool();
  const std::lock_guard lock(p.mutex);
  if (!p.arena) p.arena = std::make_shared<Arena>(p.threads.load());
  return p.arena;
}

/// Marks this thread as being inside a loop.
class Inside {
 public:
  Inside() : previous_(inside_loop) { inside_loop = true; }
  ~Inside() { inside_loop = previous_; }
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;

 private:
  bool previous_;
};

}  // namespace

int num_threads() { return pool().threads.load(std::memory_order_relaxed); }

void set_num_threads(int count) {
  WEFT_CHECK(ArgumentError, count >= 1 && count <= kMostThreads,
             "set_num_threads: {} threads; give a number from 1 to {}", count, kMostThreads);
  Pool& p = pool();
  std::shared_ptr<Arena> old;
  const std::lock_guard lock(p.mutex);
  if (p.threads.exchange(count) != count) old = std::move(p.arena);
}

namespace detail {

bool in_parallel_loop() { return inside_loop; }

void set_worker_hook(void (*hook)(bool starts)) {
  worker_hook.store(hook, std::memory_order_release);
}

// Note [Parallel loops]
// Ranks and programs share hosts, so that a thread may lose its core at any time. Ranges are
// therefore smaller than n / threads and are claimed as threads become free: a thread that stands
// still holds up one range, not a share of the loop. The loop is isolated: while its caller waits
// it takes no task of another loop, whose body might be in the middle of something else.
void parallel_for(int64_t n, int64_t grain, void (*body)(void* context, int64_t, int64_t),
                  void* context) {
  if (n <= 0) return;
  grain = std::max<int64_t>(grain, 1);
  const int threads = n <= grain || inside_loop ? 1 : num_threads();
  if (threads == 1) {
    body(context, 0, n);
    return;
  }
  constexpr int64_t kRangesPerThread = 4;
  const int64_t ranges = std::min((n + grain - 1) / grain, threads * kRangesPerThread);
  const int64_t step = (n + ranges - 1) / ranges;
  const std::shared_ptr<Arena> arena = current_arena();
  hand_over();
  arena->arena.execute([&] {
    tbb::this_task_arena::isolate([&] {
      tbb::parallel_for(
          tbb::blocked_range<int64_t>(0, ranges, 1),
          [&](const tbb::blocked_range<int64_t>& some) {
            hand_over();
            const Inside inside;
            for (int64_t i = some.begin(); i < some.end(); ++i) {
              const int64_t begin = i * step, end = std::min(begin + step, n);
              if (begin < end) body(context, begin, end);
            }
            hand_over();
          },
          tbb::simple_partitioner());
    });
  });
  hand_over();
}

}  // namespace detail

}  // namespace weft::inline v0
