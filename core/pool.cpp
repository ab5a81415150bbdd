#include <weft/core/pool.hpp>

#include <cstdint>
#include <cstdlib>
#include <new>

namespace weft::inline v0::detail {

namespace {

#if defined(__SANITIZE_ADDRESS__)
#define WEFT_POOLING 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WEFT_POOLING 0
#endif
#endif
#ifndef WEFT_POOLING
#define WEFT_POOLING 1
#endif

constexpr size_t kClassBytes = 64;
constexpr size_t kClasses = kPoolLimit / kClassBytes + 1;

void* system_allocate(size_t size_class) {
  const size_t rounded = (size_class == 0 ? 1 : size_class) * kClassBytes;
  void* block = std::aligned_alloc(kClassBytes, rounded);
  if (block == nullptr) throw std::bad_alloc();
  return block;
}

#if WEFT_POOLING

constexpr int kKeptPerClass = 4096;

struct FreeBlock {
  FreeBlock* next;
};

// Note [Pool and thread exit]
// The lists are constant-initialised and have no destructor, so that the fast path needs no guard.
// `Cleaner` has one; it is touched on the slow path only, which every thread takes before it can
// own a pooled block. What is freed after it ran (by later destructors of the same thread) goes
// straight to the system.
struct FreeLists {
  FreeBlock* head[kClasses] = {};
  int count[kClasses] = {};
  bool closed = false;
};
constinit thread_local FreeLists lists;

struct Cleaner {
  bool armed = false;
  ~Cleaner() {
    lists.closed = true;
    for (FreeBlock*& head : lists.head)
      while (head != nullptr) {
        FreeBlock* next = head->next;
        std::free(head);
        head = next;
      }
  }
};
thread_local Cleaner cleaner;

#endif

size_t class_of(size_t bytes) { return (bytes + kClassBytes - 1) / kClassBytes; }

}  // namespace

void* pool_allocate(size_t bytes) {
  const size_t size_class = class_of(bytes);
#if WEFT_POOLING
  if (FreeBlock* block = lists.head[size_class]) [[likely]] {
    lists.head[size_class] = block->next;
    --lists.count[size_class];
    return block;
  }
  cleaner.armed = true;
#endif
  return system_allocate(size_class);
}

void pool_free(void* block, size_t bytes) noexcept {
#if WEFT_POOLING
  const size_t size_class = class_of(bytes);
  if (!lists.closed && lists.count[size_class] < kKeptPerClass) [[likely]] {
    if (lists.head[size_class] == nullptr) cleaner.armed = true;
    auto* free_block = static_cast<FreeBlock*>(block);
    free_block->next = lists.head[size_class];
    lists.head[size_class] = free_block;
    ++lists.count[size_class];
    return;
  }
#else
  static_cast<void>(bytes);
#endif
  std::free(block);
}

}  // namespace weft::inline v0::detail
