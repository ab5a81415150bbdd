// Memory of tensors: a pointer, its size, the device, and how to give it back. Nothing else in weft
// knows where memory came from: heap, arena of a process group, mapped file, another library.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

#include <weft/core/device.hpp>

namespace weft::inline v0 {

class Stream;

enum StorageFlags : uint8_t {
  kReadOnly = 1,   ///< writing is an error (mapped files)
  kPinned = 2,     ///< page-locked host memory
  kBorrowed = 4,   ///< owned by somebody else (from_blob, DLPack)
  kEvictable = 8,  ///< the memory may be away; see Residency
};

struct StorageImpl;

/// Brings the memory of an evictable storage in and out. Its owner (an offloading layer) implements
/// it; weft calls `materialise` never by itself: use without residency is an ArgumentError that
/// names the op, the bytes and the remedy.
class WEFT_API Residency {
 public:
  virtual ~Residency();
  /// Makes the memory present and returns its address. Throws OutOfMemory or IoError.
  virtual std::byte* materialise(size_t bytes) = 0;
  /// Gives the memory back; called only while no pin is held.
  virtual void evict(std::byte* data, size_t bytes) noexcept = 0;
};

/// The counted block behind `Storage` handles.
struct StorageImpl {
  std::atomic<uint32_t> references{1};
  std::atomic<uint32_t> version{0};  ///< raised by every write; saved tensors remember it
  uint32_t recorded_write = 0;       ///< version behind the last in-place write that was recorded
  const char* writer = nullptr;      ///< the op that wrote last, for error texts
  std::byte* data = nullptr;
  size_t bytes = 0;
  Device device;
  uint8_t flags = 0;
  std::atomic<uint32_t> pins{0};
  void (*release)(StorageImpl& self) noexcept = nullptr;  ///< frees `data`; may be null
  void* context = nullptr;                                ///< for `release`
  Residency* residency = nullptr;                         ///< set with kEvictable
};

/// A counted handle to a StorageImpl.
class WEFT_API Storage {
 public:
  Storage() = default;
  /// Takes over one reference.
  explicit Storage(StorageImpl* impl) : impl_(impl) {}
  Storage(const Storage& other) : impl_(other.impl_) {
    if (impl_) impl_->references.fetch_add(1, std::memory_order_relaxed);
  }
  Storage(Storage&& other) noexcept : impl_(std::exchange(other.impl_, nullptr)) {}
  Storage& operator=(Storage other) noexcept {
    std::swap(impl_, other.impl_);
    return *this;
  }
  ~Storage() {
    if (impl_) drop(impl_);
  }

  /// Fresh memory of `bytes` on `device` from its caching allocator; no memory on meta.
  /// `op` is named by OutOfMemory.
  static Storage allocate(size_t bytes, Device device, const char* op);

  /// Memory that somebody else made. `release` is called once, with `context` in the impl, when the
  /// last handle is gone; it may be null.
  static Storage wrap(std::byte* data, size_t bytes, Device device, uint8_t flags,
                      void (*release)(StorageImpl&) noexcept, void* context);

  /// An evictable storage, away at first. `residency` must outlive it.
  static Storage evictable(size_t bytes, Device device, Residency& residency);

  explicit operator bool() const { return impl_ != nullptr; }
  StorageImpl* get() const { return impl_; }
  StorageImpl* operator->() const { return impl_; }

  /// Tells the allocator that work on `stream` reads or writes this memory, so that a freed block
  /// is reused only behind that stream's work. No effect on the CPU.
  void used_on(const Stream& stream) const;

  bool is_resident() const { return !(impl_->flags & kEvictable) || impl_->data != nullptr; }
  /// Brings evictable memory in and holds it; each call needs one unpin(). No effect on others.
  void pin() const;
  void unpin() const noexcept;
  /// Gives evictable memory back. Throws ArgumentError while pins are held.
  void evict() const;

 private:
  static void drop(StorageImpl* impl) noexcept;

  StorageImpl* impl_ = nullptr;
};

}  // namespace weft::inline v0
