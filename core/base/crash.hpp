// What this process notes for its launcher in case it dies. See Note [Crash record].
#pragma once

#include <cstdint>
#include <string>

#include <weft/core/base/crash_record.hpp>

namespace weft::inline v0::detail {

/// A collective in words, so that the launcher, which knows no tensors, can say it. Texts that are
/// longer than their fields in CrashLane are cut.
struct CollectiveWords {
  const char* name;   ///< "all_reduce"
  const char* dtype;  ///< "f32", or empty where nothing is moved
  const char* op;     ///< "sum", or empty
  const char* peer;   ///< "from rank", "to rank", or empty
  int root;
  const int64_t* shape;
  int dims;
};

/// The collectives of one group, as this process sees them. Costs some nanoseconds a call, and
/// nothing is kept where no launcher watches.
class CollectiveNotes {
 public:
  explicit CollectiveNotes(const std::string& group);
  ~CollectiveNotes();
  CollectiveNotes(const CollectiveNotes&) = delete;
  CollectiveNotes& operator=(const CollectiveNotes&) = delete;

  /// A collective begins. `key` is any number that two collectives share only where all of their
  /// words but the shape are equal.
  void begin(uint64_t sequence, uint64_t key, const CollectiveWords& words) {
    if (lane_ == nullptr) return;
    CrashLane& lane = *lane_;
    if (key != key_) write_names(key, words);
    const int dims = words.dims < 8 ? words.dims : 8;
    for (int i = 0; i < dims; ++i) lane.shape[i] = words.shape[i];
    lane.dims = words.dims;
    lane.sequence.store(sequence, std::memory_order_relaxed);
    stamp();
    lane.running.store(1, std::memory_order_release);
  }

  /// The collective that began last has ended well.
  void finish() {
    if (lane_ == nullptr) return;
    CrashLane& lane = *lane_;
    lane.completed.store(lane.sequence.load(std::memory_order_relaxed), std::memory_order_relaxed);
    stamp();
    lane.running.store(0, std::memory_order_release);
  }

 private:
  void write_names(uint64_t key, const CollectiveWords& words);
  void stamp() {
    // Not one atomic step: two threads that collide only make the order of their groups unclear.
    const uint64_t next = stamps_->load(std::memory_order_relaxed) + 1;
    stamps_->store(next, std::memory_order_relaxed);
    lane_->stamp.store(next, std::memory_order_relaxed);
  }

  CrashLane* lane_;  // null where nobody watches
  std::atomic<uint64_t>* stamps_;
  uint64_t key_ = ~uint64_t{0};
};

/// Notes why a group ended, so that this process's own end can be told from what caused it.
/// `rank` (in that group) and `pid` are those of the rank that was lost, -1 where none was or where
/// they are not known. The first note stays.
void note_group_ended(int rank, int pid, const std::string& text) noexcept;

}  // namespace weft::inline v0::detail
