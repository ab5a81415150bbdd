#include <weft/core/cpu/allocator.hpp>

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <memory>
#include <new>

#include <weft/core/base/check.hpp>

namespace weft::inline v0::detail {

namespace {

constexpr size_t kHugePage = size_t{2} << 20;

std::byte* system_allocate(size_t bytes) noexcept {
  if (bytes < kHugePage) return static_cast<std::byte*>(std::aligned_alloc(64, bytes));
  // Aligned to the huge page by asking for one more and cutting the ends off.
  const size_t reserved = bytes + kHugePage;
  void* raw = ::mmap(nullptr, reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) return nullptr;
  const auto start = reinterpret_cast<uintptr_t>(raw);
  const uintptr_t aligned = (start + kHugePage - 1) & ~(kHugePage - 1);
  if (aligned != start) ::munmap(raw, aligned - start);
  const uintptr_t end = start + reserved;
  if (end != aligned + bytes)
    ::munmap(reinterpret_cast<void*>(aligned + bytes), end - aligned - bytes);
  ::madvise(reinterpret_cast<void*>(aligned), bytes, MADV_HUGEPAGE);  // a hint: failure is no error
  return reinterpret_cast<std::byte*>(aligned);
}

void system_free(std::byte* block, size_t bytes) noexcept {
  if (bytes < kHugePage)
    std::free(block);
  else
    ::munmap(block, bytes);
}

// Note [Counting small blocks]
// A locked instruction per block would cost more than the block. Each thread writes counters of its
// own with plain stores; the reader sums over the threads, those that ended included.
struct SmallCounters {
  std::atomic<int64_t> bytes{0};
  std::atomic<int64_t> blocks{0};
};

struct CounterList {
  std::mutex mutex;
  std::vector<SmallCounters*> live;
  int64_t ended_bytes = 0;
  int64_t ended_blocks = 0;
};

CounterList& counter_list() {
  static CounterList* list = std::make_unique<CounterList>().release();  // outlives every thread
  return *list;
}

constinit thread_local SmallCounters counters;

struct CounterRegistration {
  CounterRegistration() {
    CounterList& list = counter_list();
    const std::lock_guard lock(list.mutex);
    list.live.push_back(&counters);
  }
  ~CounterRegistration() {
    CounterList& list = counter_list();
    const std::lock_guard lock(list.mutex);
    list.live.erase(std::find(list.live.begin(), list.live.end(), &counters));
    list.ended_bytes += counters.bytes.load(std::memory_order_relaxed);
    list.ended_blocks += counters.blocks.load(std::memory_order_relaxed);
  }
};
constinit thread_local bool counters_registered = false;

[[gnu::noinline, gnu::cold]] void register_counters() {
  thread_local CounterRegistration registration;
  counters_registered = true;
}

}  // namespace

void count_small_block(int64_t bytes) noexcept {
  if (!counters_registered) [[unlikely]]
    register_counters();
  counters.bytes.store(counters.bytes.load(std::memory_order_relaxed) + bytes,
                       std::memory_order_relaxed);
  if (bytes > 0)
    counters.blocks.store(counters.blocks.load(std::memory_order_relaxed) + 1,
                          std::memory_order_relaxed);
}

int64_t small_bytes_in_use() noexcept {
  CounterList& list = counter_list();
  const std::lock_guard lock(list.mutex);
  int64_t sum = list.ended_bytes;
  for (const SmallCounters* c : list.live) sum += c->bytes.load(std::memory_order_relaxed);
  return sum;
}

int64_t small_blocks_handed_out() noexcept {
  CounterList& list = counter_list();
  const std::lock_guard lock(list.mutex);
  int64_t sum = list.ended_blocks;
  for (const SmallCounters* c : list.live) sum += c->blocks.load(std::memory_order_relaxed);
  return sum;
}

size_t CachingAllocator::rounded(size_t bytes) {
  if (bytes <= 4096) return std::max<size_t>((bytes + 63) & ~size_t{63}, 64);
  const size_t step = std::bit_ceil(bytes) / 8;
  const size_t size = (bytes + step - 1) / step * step;
  return size < kHugePage ? size : (size + kHugePage - 1) & ~(kHugePage - 1);
}

std::byte* CachingAllocator::allocate(size_t bytes, const char* op) {
  const size_t size = rounded(bytes);
  const auto signed_size = static_cast<int64_t>(size);
  const std::lock_guard lock(mutex_);
  std::byte* block = nullptr;
  auto& bin = cached_[size];
  if (!bin.empty()) {
    block = bin.back();
    bin.pop_back();
    ++stats_.cache_hits;
  } else {
    if (stats_.limit > 0 && stats_.reserved + signed_size > stats_.limit) {
      trim_locked();
      if (stats_.reserved + signed_size > stats_.limit) fail(bytes, op);
    }
    block = system_allocate(size);
    if (block == nullptr) {
      trim_locked();
      block = system_allocate(size);
      if (block == nullptr) fail(bytes, op);
    }
    stats_.reserved += signed_size;
  }
  stats_.allocated += signed_size;
  stats_.peak_allocated = std::max(stats_.peak_allocated, stats_.allocated);
  ++stats_.allocations;
  return block;
}

void CachingAllocator::free(std::byte* block, size_t bytes) noexcept {
  const size_t size = rounded(bytes);
  const std::lock_guard lock(mutex_);
  stats_.allocated -= static_cast<int64_t>(size);
  try {
    cached_[size].push_back(block);
  } catch (const std::bad_alloc&) {  // no memory for the list: the block itself is some
    system_free(block, size);
    stats_.reserved -= static_cast<int64_t>(size);
  }
}

void CachingAllocator::trim_locked() noexcept {
  for (auto& [size, blocks] : cached_) {
    for (std::byte* block : blocks) system_free(block, size);
    stats_.reserved -= static_cast<int64_t>(size * blocks.size());
    blocks.clear();
  }
}

void CachingAllocator::trim() noexcept {
  const std::lock_guard lock(mutex_);
  trim_locked();
}

MemoryStats CachingAllocator::stats() const {
  const int64_t small = small_bytes_in_use(), blocks = small_blocks_handed_out();
  const std::lock_guard lock(mutex_);
  MemoryStats figures = stats_;
  figures.allocated += small;
  figures.peak_allocated = std::max(figures.peak_allocated, figures.allocated);
  figures.reserved += small;
  figures.allocations += blocks;
  return figures;
}

void CachingAllocator::reset_peak() {
  const std::lock_guard lock(mutex_);
  stats_.peak_allocated = stats_.allocated;
}

void CachingAllocator::set_limit(int64_t bytes) {
  WEFT_CHECK(ArgumentError, bytes >= 0, "set_memory_limit: {} bytes; use 0 for no limit", bytes);
  const std::lock_guard lock(mutex_);
  stats_.limit = bytes;
}

void CachingAllocator::fail(size_t bytes, const char* op) const {
  detail::fail<OutOfMemory>(
      "{}: {} bytes of CPU memory cannot be had: {} in use, {} cached, limit {}; use smaller "
      "batches "
      "or raise the limit",
      op, bytes, stats_.allocated, stats_.reserved - stats_.allocated,
      stats_.limit > 0 ? std::to_string(stats_.limit) : std::string("none"));
}

CachingAllocator& cpu_allocator() {
  static CachingAllocator* allocator = std::make_unique<CachingAllocator>().release();
  return *allocator;
}

}  // namespace weft::inline v0::detail
