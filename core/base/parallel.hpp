// Loops over several threads. Header and function pointers only: kernel files of every CPU level
// include it.
#pragma once

#include <cstdint>

#include <weft/core/base/api.hpp>

namespace weft::inline v0 {

/// Threads that one parallel loop may use, the caller's included: set_num_threads, else
/// WEFT_NUM_THREADS, else the cores that this process may run on.
WEFT_API int num_threads();

/// Sets num_threads() for this process. Throws ArgumentError below 1. Not to be called while a
/// parallel loop runs.
WEFT_API void set_num_threads(int count);

namespace detail {

/// Calls body(context, begin, end) for ranges that together cover [0, n) once, on several threads
/// at a time. In one call on this thread where n <= grain, where there is one thread, and inside
/// another parallel loop. `grain`: elements that take about 20 us, the least that is worth handing
/// over. A body takes no lock, waits for nobody and dispatches no op. An exception of a body is
/// rethrown here.
WEFT_API void parallel_for(int64_t n, int64_t grain, void (*body)(void* context, int64_t, int64_t),
                           void* context);

/// Whether this thread is inside a parallel loop.
bool in_parallel_loop();

/// Called on each worker thread when it starts and stops to work for parallel loops; for libraries
/// with threads of their own, which must not start them there. Null for none.
void set_worker_hook(void (*hook)(bool starts));

}  // namespace detail

/// The same for any callable body(begin, end).
template <class Body>
[[gnu::always_inline]] inline void parallel_for(int64_t n, int64_t grain, const Body& body) {
  if (n <= grain) {
    if (n > 0) body(int64_t{0}, n);
    return;
  }
  detail::parallel_for(
      n, grain,
      [](void* context, int64_t begin, int64_t end) {
        (*static_cast<const Body*>(context))(begin, end);
      },
      const_cast<void*>(static_cast<const void*>(&body)));
}

}  // namespace weft::inline v0
