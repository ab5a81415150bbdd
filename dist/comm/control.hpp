// The shared control block of a group: who has arrived where, what each rank called last, and why
// the group ended.
//
// Note [Phases]
// Every rank counts phases; `arrived` is its count. A collective is a few phases, each "publish,
// arrive, wait until all have arrived". A rank can be at most one phase ahead: to arrive at p + 2
// it must have seen everybody at p + 1, and who is at p + 1 is done with what was published at p.
// So two copies of everything published (words here, tiles in the transport), chosen by the phase's
// parity, need no further synchronisation. Counts are compared by signed difference and may wrap.
//
// Note [Sleeping]
// A waiter spins for a bounded time (not at all where ranks outnumber the CPUs), then registers in
// `waiters` and sleeps on the peer's own count for a slice of 20 ms; an arriving rank enters the
// kernel only where somebody is registered. Count and registration are sequentially consistent: one
// of the two sides sees the other. Between slices the waiter looks at the end of the group, at the
// lives of all that it still waits for in this phase (of the one peer of a message) and at its
// deadline, so that no wait is longer than a slice past any of these.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include <weft/dist/comm/call.hpp>
#include <weft/dist/comm/peers.hpp>
#include <weft/dist/store/clock.hpp>

namespace weft::inline v0::dist::detail {

inline constexpr int kRecords = 64;       ///< calls remembered per rank
inline constexpr int kReasonSize = 2048;  ///< bytes for the text of the group's end

enum class Ending : uint32_t { none, aborted, lost, timeout, desync };

/// What a rank announces with its arrival, in one cache line.
struct alignas(64) RankLine {
  std::atomic<uint32_t> arrived;
  std::atomic<uint32_t> waiters;
  std::atomic<uint32_t> left;
  std::atomic<int32_t> pid;
  std::atomic<uint64_t> fingerprint[2];
  std::atomic<uint64_t> place[2];
  std::atomic<uint64_t> records;  ///< written so far; the last one is at (records - 1) % kRecords
};
static_assert(sizeof(RankLine) == 64);

/// A call as the other ranks can read it at any time: words, so that reading needs no lock.
struct Record {
  std::atomic<uint64_t> sequence;
  std::atomic<uint64_t> what;  ///< kind, dtype, op, rank of the shape, root + 1
  std::atomic<int64_t> started_ns;
  std::atomic<uint64_t> done;
  std::atomic<int64_t> shape[kMaxRank];
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
  int32_t lost_rank;
  char reason[kReasonSize];
};

/// One rank's handle to the control block in a region.
class Control {
 public:
  /// Bytes that the block takes at the front of the region.
  static size_t bytes_for(int size);

  /// Lays out (rank 0) or checks the block. `labels` are the numbers by which the ranks go in texts
  /// and errors: those of the whole group, where this is one node's part of it; none: 0, 1, …
  /// Throws CommError where magic, version or size differ.
  Control(std::shared_ptr<Region> region, Peers& peers, std::string name, uint64_t id,
          double timeout, std::vector<int> labels = {});
  ~Control();
  Control(const Control&) = delete;
  Control& operator=(const Control&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  int label(int rank) const { return labels_.empty() ? rank : labels_[static_cast<size_t>(rank)]; }
  uint64_t sequence() const { return sequence_; }

  /// Starts a collective: its deadline and its record. `next_parity` then says which copy to fill
  /// before `meet`.
  void begin(const Call& call);
  unsigned next_parity() const { return (phase_ + 1) & 1u; }

  /// The first phase of a collective: publishes the fingerprint and `place` (0: none), waits for
  /// all and compares. Returns whether all places are equal and set, else whether none is set in
  /// `none_placed`. Throws DesyncError on all ranks where the fingerprints differ.
  bool meet(uint64_t place, bool& none_placed);

  /// A further phase: arrives and waits for all.
  void sync();

  /// Marks the running call as done.
  void finish();

  /// Counts and waits of send and recv. `begin_message` starts the call with its own deadline.
  uint64_t begin_message(const Call& call, uint64_t sequence);
  Channel& channel(int from, int to) const;
  void signal(std::atomic<uint32_t>& count, std::atomic<uint32_t>& waiters);
  void await(std::atomic<uint32_t>& count, uint32_t target, std::atomic<uint32_t>& waiters,
             int peer);
  [[noreturn]] void fail_message(int peer);

  /// Ends the group for all ranks, once; later calls have no effect.
  void end(Ending kind, int lost_rank, const std::string& reason) noexcept;

  /// Throws what ended the group, if anything did.
  void check_alive();

  const std::string& name() const { return name_; }

 private:
  ControlHeader& header() const;
  RankLine& line(int rank) const;
  Record& record(int rank, uint64_t index) const;

  void arrive();
  void await_all();
  void await_slowly(std::atomic<uint32_t>& count, uint32_t target, std::atomic<uint32_t>& waiters,
                    int peer);
  /// Ends the group where `peer` is gone and its count has not reached the target.
  void check_life(int peer, const std::atomic<uint32_t>& count, uint32_t target);
  void fail_lost(int peer, const std::string& why);
  void fail_timeout(int peer);
  void fail_desync(unsigned parity);
  [[noreturn]] void throw_ending();
  void write_record(const Call& call, uint64_t sequence);
  std::string last_call(int rank) const;
  bool has_arrived(int rank) const;

  std::shared_ptr<Region> region_;
  Peers& peers_;
  std::string name_;
  uint64_t id_;
  double timeout_;
  std::vector<int> labels_;
  int rank_, size_;
  int spins_;
  uint32_t phase_ = 0;
  uint64_t sequence_ = 0;
  uint64_t fingerprint_ = 0;
  Call call_;
  Record* record_ = nullptr;
  TimePoint start_;
};

}  // namespace weft::inline v0::dist::detail
