// Memory of a sim device: one memfd, mapped twice. Tensors carry addresses of the mapping that
// nobody may touch, so that a host access which a GPU would punish crashes here too; kernels get
// the other one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include <weft/core/memory.hpp>
#include <weft/core/stream.hpp>

namespace weft::inline v0::detail {

/// A piece of the arena, in use or free.
struct SimBlock {
  size_t offset = 0;
  size_t bytes = 0;
  Stream* owner = nullptr;  ///< current when it was allocated; work there needs no event
  std::vector<std::pair<Stream*, uint64_t>> pending;  ///< what must be done before others reuse it
};

class SimArena {
 public:
  /// Reserves `bytes` of address space twice; memory is taken when it is touched.
  explicit SimArena(size_t bytes);
  ~SimArena();
  SimArena(const SimArena&) = delete;
  SimArena& operator=(const SimArena&) = delete;

  std::byte* address(const SimBlock& block) const { return untouchable_ + block.offset; }
  /// What turns a tensor's address into a kernel's.
  ptrdiff_t delta() const { return touchable_ - untouchable_; }

  /// A block that work queued on `stream` may use; null where there is no room (within the limit)
  /// without waiting for other streams.
  std::unique_ptr<SimBlock> take(size_t bytes, Stream& stream);
  /// Back to the free blocks; marks the work that may still use it.
  void give(std::unique_ptr<SimBlock> block);
  void used_on(SimBlock& block, Stream& stream);

  MemoryStats stats() const;
  void reset_peak();
  void set_limit(int64_t bytes);
  size_t capacity() const { return bytes_; }

 private:
  bool is_ready(const SimBlock& block, const Stream& stream) const;

  size_t bytes_;
  std::byte* untouchable_ = nullptr;
  std::byte* touchable_ = nullptr;
  mutable std::mutex mutex_;
  size_t top_ = 0;  ///< everything from here on was never used
  std::multimap<size_t, std::unique_ptr<SimBlock>> free_;  ///< by size
  MemoryStats stats_;
};

}  // namespace weft::inline v0::detail
