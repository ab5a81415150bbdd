// The layout of the control block that the ranks of a group share, and where its parts lie.
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

#include <weft/core/shape.hpp>

namespace weft::inline v0::dist::detail {

inline constexpr int kRecords = 1024;     ///< calls remembered per rank
inline constexpr int kReasonSize = 4096;  ///< bytes for the text of the group's end

enum class Ending : uint32_t { none, aborted, lost, timeout, desync };

/// What a rank announces with its arrival at a phase, in a cache line of its own; CPUs fetch lines
/// in pairs, hence 128. There are two, for phases of either parity: who has left a phase can write
/// what it announces for the next one while others still read this one's.
struct alignas(128) Arrival {
  std::atomic<uint32_t> phase;
  std::atomic<uint32_t> check;  ///< of fingerprint and place: damage to them is no instruction
  std::atomic<uint64_t> stamp;  ///< ticks() when the call began
  std::atomic<uint64_t> fingerprint;
  std::atomic<uint64_t> place;
};

/// What a rank says of itself that the others seldom read.
struct alignas(64) RankLine {
  std::atomic<uint32_t> left;
  std::atomic<int32_t> pid;
  std::atomic<uint64_t> records;  ///< written so far; the last one is at (records - 1) % kRecords
};

/// A call as the other ranks can read it at any time: words, so that reading needs no lock. Calls
/// of tensors with up to 4 dims write its first cache line alone.
struct alignas(64) Record {
  std::atomic<uint64_t> sequence;
  std::atomic<uint64_t> what;      ///< kind, dtype, op, rank of the shape, root + 1
  std::atomic<uint64_t> started;   ///< ticks()
  std::atomic<uint64_t> finished;  ///< ticks(); 0 while it is under way
  std::atomic<int64_t> shape[kMaxRank];
};
static_assert(sizeof(Record) == 128);

// Note [Lateness]
// Who is slow shows in when ranks arrive, not in how long their calls take: a slow rank finds all
// others waiting and is through at once. So every rank stamps its arrival at each collective with
// the CPU's counter, and once all have met, reckons how long after the first it came. It counts
// that in a histogram of its own, whose buckets are a quarter of a power of two wide.
inline constexpr int kLatenessBuckets = 192;

struct alignas(64) RankCounts {
  std::atomic<uint64_t> calls;
  std::atomic<uint64_t> last;  ///< how often nobody came later
  std::atomic<uint64_t> lateness[kLatenessBuckets];
};

/// The bucket of a lateness in ticks, and the ticks in the middle of a bucket.
inline int lateness_bucket(uint64_t ticks) {
  if (ticks < 4) return static_cast<int>(ticks);
  const int exponent = std::bit_width(ticks) - 1;
  const int bucket = 4 * (exponent - 1) + static_cast<int>(ticks >> (exponent - 2) & 3);
  return bucket < kLatenessBuckets ? bucket : kLatenessBuckets - 1;
}
inline double lateness_ticks(int bucket) {
  if (bucket < 4) return bucket;
  return static_cast<double>(uint64_t{1} << (bucket / 4 - 1)) * (4 + bucket % 4 + 0.5);
}

/// The CPUs that a rank may run on, one bit each.
struct alignas(64) RankCpus {
  std::atomic<uint64_t> words[16];
};

/// The two counters of one direction between two ranks, for send and recv.
struct alignas(64) Channel {
  std::atomic<uint32_t> sent, taken;
  std::atomic<uint32_t> sent_waiters, taken_waiters;
  std::atomic<uint64_t> send_fingerprint, recv_fingerprint;
};

struct alignas(64) ControlHeader {
  uint64_t magic;
  uint32_t abi;
  uint32_t size;
  uint64_t bytes;
  std::atomic<uint32_t> ready;   ///< the fields above are written
  std::atomic<uint32_t> ending;  ///< 0: none, 1: being written, 2: what follows holds
  Ending kind;
  int32_t lost_rank, lost_pid;
  /// Ranks asleep until the phase is complete sleep on `bell`.
  alignas(64) std::atomic<uint32_t> bell;
  std::atomic<uint32_t> sleepers;
  alignas(64) char reason[kReasonSize];
};

/// Where the parts of a block for `size` ranks lie.
class ControlBlock {
 public:
  ControlBlock(std::byte* memory, int size) : memory_(memory), size_(size) {}

  ControlHeader& header() const { return *reinterpret_cast<ControlHeader*>(memory_); }
  Arrival& arrival(int rank, unsigned parity) const {
    return at<Arrival>(arrivals_at(), 2 * rank + static_cast<int>(parity));
  }
  RankLine& line(int rank) const { return at<RankLine>(lines_at(size_), rank); }
  RankCounts& counts(int rank) const { return at<RankCounts>(counts_at(size_), rank); }
  RankCpus& cpus(int rank) const { return at<RankCpus>(cpus_at(size_), rank); }
  Channel& channel(int from, int to) const {
    return at<Channel>(channels_at(size_), from * size_ + to);
  }
  Record& record(int rank, uint64_t index) const {
    return (&at<Record>(records_at(size_),
                        0))[static_cast<uint64_t>(rank) * kRecords + index % kRecords];
  }

  static size_t bytes_for(int size) {
    return round_up(records_at(size) + sizeof(Record) * kRecords * static_cast<size_t>(size), 4096);
  }

 private:
  static size_t round_up(size_t value, size_t unit) { return (value + unit - 1) / unit * unit; }
  static size_t arrivals_at() { return round_up(sizeof(ControlHeader), alignof(Arrival)); }
  static size_t lines_at(int size) {
    return arrivals_at() + 2 * sizeof(Arrival) * static_cast<size_t>(size);
  }
  static size_t counts_at(int size) {
    return lines_at(size) + sizeof(RankLine) * static_cast<size_t>(size);
  }
  static size_t cpus_at(int size) {
    return counts_at(size) + sizeof(RankCounts) * static_cast<size_t>(size);
  }
  static size_t channels_at(int size) {
    return cpus_at(size) + sizeof(RankCpus) * static_cast<size_t>(size);
  }
  static size_t records_at(int size) {
    const auto ranks = static_cast<size_t>(size);
    return channels_at(size) + sizeof(Channel) * ranks * ranks;
  }
  template <class T>
  T& at(size_t offset, int index) const {
    return reinterpret_cast<T*>(memory_ + offset)[index];
  }

  std::byte* memory_;
  int size_;
};

}  // namespace weft::inline v0::dist::detail
