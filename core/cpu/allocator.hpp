// The caching allocator of the CPU, below Storage. Not for users.
#pragma once

#include <atomic>
#include <cstddef>
#include <map>
#include <mutex>
#include <vector>

#include <weft/core/memory.hpp>

namespace weft::inline v0::detail {

/// Keeps freed blocks by size class: touching fresh pages costs many times what reuse does.
/// Blocks of 2 MiB and more are aligned to 2 MiB and ask for huge pages.
class CachingAllocator {
 public:
  /// A 64-byte aligned block. Throws OutOfMemory with `op` and the figures.
  std::byte* allocate(size_t bytes, const char* op);
  void free(std::byte* block, size_t bytes) noexcept;
  void trim() noexcept;
  MemoryStats stats() const;
  void reset_peak();
  void set_limit(int64_t bytes);

  /// Rounded size that a request takes: a quarter of a power of two at a time.
  static size_t rounded(size_t bytes);

 private:
  [[noreturn]] void fail(size_t bytes, const char* op) const;
  void trim_locked() noexcept;

  mutable std::mutex mutex_;
  std::map<size_t, std::vector<std::byte*>> cached_;
  MemoryStats stats_;
};

/// The process's one, never destroyed, so that storages may outlive everything else.
CachingAllocator& cpu_allocator();

/// Counts a small block (from the pool) of this thread; negative when it is freed.
void count_small_block(int64_t bytes) noexcept;
/// Sum over all threads.
int64_t small_bytes_in_use() noexcept;
int64_t small_blocks_handed_out() noexcept;

}  // namespace weft::inline v0::detail
