// Small blocks from thread-local free lists. Not for users.
#pragma once

#include <cstddef>

namespace weft::inline v0::detail {

/// Blocks up to this size come from the free lists.
inline constexpr size_t kPoolLimit = 1024;

/// A 64-byte aligned block of at least `bytes` (up to kPoolLimit). Throws std::bad_alloc.
void* pool_allocate(size_t bytes);

/// Gives it back, on any thread; `bytes` as it was asked for.
void pool_free(void* block, size_t bytes) noexcept;

}  // namespace weft::inline v0::detail
