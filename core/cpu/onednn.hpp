// What the oneDNN files share: engine and stream of the thread, threads, scratch. Included by
// core/cpu/onednn_*.cpp alone.
#pragma once

#include <dnnl.hpp>

#include <cstddef>
#include <memory>
#include <unordered_map>

#include <weft/core/storage.hpp>

namespace weft::inline v0::detail::onednn {

/// While it lives, oneDNN works on the calling thread alone. Note [oneDNN and threads]
/// weft splits the work itself, over oneTBB. Debian's oneDNN knows OpenMP alone, whose thread count
/// is a setting of each calling thread; it also decides about the blocking when a primitive is
/// made. So it is 1 around every call, and a host program's own OpenMP gets its count back.
class OneThread {
 public:
  OneThread();
  ~OneThread();
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int previous_;
};

/// Engine, stream and scratch of the calling thread.
struct Thread {
  Thread();
  dnnl::engine engine;
  dnnl::stream stream;
  Storage scratch;

  /// Memory of at least `bytes`, kept for the next call.
  std::byte* scratch_of(size_t bytes);
  static Thread& current();
};

/// Bytes of a key, hashed: keys are structs without padding.
template <class Key>
struct KeyHash {
  size_t operator()(const Key& key) const {
    const auto* bytes = reinterpret_cast<const unsigned char*>(&key);
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < sizeof(Key); i += sizeof(uint64_t)) {
      uint64_t word;
      __builtin_memcpy(&word, bytes + i, sizeof(word));
      hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
      hash ^= hash >> 29;
    }
    return hash;
  }
};

/// Primitives of one thread by shape. Making one takes 10 us and more, running a small one 2 us.
/// When it is full it starts anew, which a program with a bounded number of shapes never sees.
template <class Key, class Entry>
class PrimitiveCache {
 public:
  template <class Make>
  Entry& find(const Key& key, Make&& make) {
    if (const auto found = entries_.find(key); found != entries_.end()) return *found->second;
    if (entries_.size() >= kMost) entries_.clear();
    return *entries_.emplace(key, make(key)).first->second;
  }

 private:
  static constexpr size_t kMost = 512;
  std::unordered_map<Key, std::unique_ptr<Entry>, KeyHash<Key>> entries_;
};

/// A failure of the library as an Error that names `op`.
[[noreturn]] void fail(const char* op, const dnnl::error& error);

}  // namespace weft::inline v0::detail::onednn
