#include <weft/core/base/parallel.hpp>

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>

#include <weft/core/base/check.hpp>
#include <weft/core/base/cpus.hpp>
#include <weft/core/base/env.hpp>
#include <weft/core/base/tbb_arena.hpp>

namespace weft::inline v0 {

namespace {

constexpr int kMostThreads = 1024;

std::atomic<void (*)(bool)> worker_hook{nullptr};
constinit thread_local bool inside_loop = false;

int default_threads() {
  if (const auto count = env::get_int("WEFT_NUM_THREADS", 1, kMostThreads))
    return static_cast<int>(*count);
  return std::min(detail::allowed_cpus(), kMostThreads);
}

/// Tells the hook of a worker thread that comes or goes.
void tell_hook(bool starts) {
  void (*hook)(bool) = worker_hook.load(std::memory_order_acquire);
  if (hook != nullptr) hook(starts);
}

// Never destroyed: threads of the program may still run loops while it exits.
struct Pool {
  std::mutex mutex;
  std::atomic<int> threads{default_threads()};
  std::shared_ptr<detail::TbbArena> arena;  // made by the first loop that needs it
};

Pool& pool() {
  static Pool* const instance = std::make_unique<Pool>().release();
  return *instance;
}

std::shared_ptr<detail::TbbArena> current_arena() {
  Pool& p = pool();
  const std::lock_guard lock(p.mutex);
  if (!p.arena) p.arena = std::make_shared<detail::TbbArena>(p.threads.load(), tell_hook);
  return p.arena;
}

/// One loop, for the threads that run it.
struct Loop {
  void (*body)(void* context, int64_t, int64_t);
  void* context;
  int64_t n, step;
};

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

void run_range(void* context, int64_t i) {
  const Loop& loop = *static_cast<const Loop*>(context);
  const Inside inside;
  const int64_t begin = i * loop.step, end = std::min(begin + loop.step, loop.n);
  if (begin < end) loop.body(loop.context, begin, end);
}

}  // namespace

int num_threads() { return pool().threads.load(std::memory_order_relaxed); }

void set_num_threads(int count) {
  WEFT_CHECK(ArgumentError, count >= 1 && count <= kMostThreads,
             "set_num_threads: {} threads; give a number from 1 to {}", count, kMostThreads);
  Pool& p = pool();
  std::shared_ptr<detail::TbbArena> old;
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
  const std::shared_ptr<TbbArena> arena = current_arena();
  Loop loop{body, context, n, step};
  arena->run(ranges, run_range, &loop);
}

}  // namespace detail

}  // namespace weft::inline v0
