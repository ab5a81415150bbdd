// Statistics and limits of the caching allocators.
#pragma once

#include <cstdint>

#include <weft/core/device.hpp>

namespace weft::inline v0 {

/// Figures of one device's allocator, in bytes unless said otherwise.
struct MemoryStats {
  int64_t allocated = 0;       ///< in use by storages now
  int64_t peak_allocated = 0;  ///< highest `allocated` since the last reset_peak_memory_stats
  int64_t reserved = 0;        ///< held from the system: in use or cached
  int64_t allocations = 0;     ///< blocks handed out so far (a count)
  int64_t cache_hits = 0;      ///< of these, served without asking the system (a count)
  int64_t limit = 0;           ///< 0: none
};

/// Figures of `device`'s allocator. On meta, `allocated` counts the bytes that the tensors would
/// take.
WEFT_API MemoryStats memory_stats(Device device = Device::cpu());

/// Sets `peak_allocated` to the bytes in use now.
WEFT_API void reset_peak_memory_stats(Device device = Device::cpu());

/// Makes allocations that would bring `reserved` above `bytes` throw OutOfMemory; 0 lifts the
/// limit. Cached blocks are given back first.
WEFT_API void set_memory_limit(int64_t bytes, Device device = Device::cpu());

/// Gives cached blocks back to the system.
WEFT_API void empty_cache(Device device = Device::cpu());

}  // namespace weft::inline v0
