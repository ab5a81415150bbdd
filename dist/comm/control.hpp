// The shared control block of a group: who has arrived where, what each rank called last, and why
// the group ended.
//
// Note [Phases]
// Every rank counts phases and announces its count. A collective is a few phases, each "publish,
// arrive, wait until all have arrived". A rank can be at most one phase ahead: to arrive at p + 2
// it must have seen everybody at p + 1, and who is at p + 1 is done with what was published at p.
// So two copies of everything published (words here, tiles in the transport), chosen by the phase's
// parity, need no further synchronisation. Counts are compared by signed difference and may wrap.
// tests/dist/protocol_explorer.cpp goes through every interleaving of this for 2 and 3 ranks.
//
// Note [Waiting]
// A waiter first spins for about a microsecond, or hardly at all where ranks outnumber the CPUs.
// Then it yields for a fraction of a millisecond: a rank that waits for one behind it in the same
// CPU's queue lets that one run at once, at a third of the cost of sleeping. A yield that takes
// long says that the CPU went to somebody who keeps it (another program, a rank that computes), and
// whoever sleeps gets it back sooner than who yields, so then, and for the next few waits, it does
// not yield. At last it sleeps, for slices of 20 ms.
//
// Note [Sleeping]
// Waiters of a phase sleep on one word, the bell. Who goes to sleep registers first and then looks
// once more whether all have arrived; who leaves a phase looks whether anybody is registered, and
// only then enters the kernel to ring. A full fence stands on either side between the store
// (arrival or registration) and the look. So of all ranks of a phase, the last one to pass its
// fence on the way to sleep sees all arrivals and leaves instead, and who leaves sees all who
// registered before; who registers later sees that all have arrived. The fence comes after the
// wait, not between arriving and looking, so that the two cache misses of an arrival overlap.
//
// Between slices the waiter looks at the end of the group, at the lives of all that it still waits
// for in this phase (of the one peer of a message) and at its deadline, so that no wait is longer
// than a slice past any of these. Messages between two ranks wait on words of their own, alike.
//
// Note [Time that counts]
// A deadline is about time in which this rank could see the others come. It is added up between the
// looks of a wait, by the monotonic clock, and a gap that no slice explains counts for half a
// second: this process was stopped meanwhile (a debugger, Ctrl-Z, a paused machine), and the others
// perhaps with it, who after that have as much time left to come as before.
#pragma once

#include <sys/types.h>

#include <exception>
#include <memory>
#include <string>
#include <vector>

#include <weft/core/base/crash.hpp>
#include <weft/core/base/error.hpp>
#include <weft/dist/comm/call.hpp>
#include <weft/dist/comm/control_block.hpp>
#include <weft/dist/comm/peers.hpp>
#include <weft/dist/comm/ticks.hpp>
#include <weft/dist/comm/transport.hpp>
#include <weft/dist/store/clock.hpp>

namespace weft::inline v0::dist::detail {

/// One rank's handle to the control block in a region.
class Control {
 public:
  /// Bytes that the block takes at the front of the region.
  static size_t bytes_for(int size) { return ControlBlock::bytes_for(size); }

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
  double timeout() const { return timeout_; }
  void set_timeout(double seconds) { timeout_ = seconds; }

  /// Starts a collective: its deadline and its record. `next_parity` then says which copy to fill
  /// before `meet`.
  void begin(const Call& call);
  unsigned next_parity() const { return (phase_ + 1) & 1u; }

  /// The first phase of a collective: publishes the fingerprint and `place` (0: none), waits for
  /// all and compares. Returns whether all places are equal and set, else whether none is set in
  /// `none_placed`. Throws DesyncError on all ranks where the fingerprints differ.
  bool meet(uint64_t place, bool& none_placed);

  /// A further phase: arrives and waits for all.
  void sync() {
    arrive();
    await_all();
  }

  /// begin, meet and finish of a call without data.
  void barrier();

  /// Marks the running call as done.
  void finish();

  /// Lets the rest of the running call wait this much longer: who waits for other nodes finds out
  /// first which rank it is that keeps all waiting.
  void set_patience(double seconds) { patience_ = seconds; }
  /// Looks at the clock, which a wait does once per slice: whether the running call has waited for
  /// `beyond` seconds more than the group's timeout; see Note [Time that counts].
  bool is_late(double beyond);
  /// The running call: the seconds that it has taken, its description, its fingerprint.
  double elapsed() const;
  std::string running_call() const { return last_call(rank_); }
  uint64_t running_fingerprint() const { return fingerprint_; }

  /// Counts and waits of send and recv. `begin_message` starts the call with its own deadline.
  uint64_t begin_message(const Call& call, uint64_t sequence);
  /// The same for a message to or from another node: call.root is a rank of the whole group.
  uint64_t begin_remote_message(const Call& call, uint64_t sequence);
  Channel& channel(int from, int to) const { return block_.channel(from, to); }
  void signal(std::atomic<uint32_t>& count, std::atomic<uint32_t>& waiters);
  void await(std::atomic<uint32_t>& count, uint32_t target, std::atomic<uint32_t>& waiters,
             int peer);
  [[noreturn]] void fail_message(int peer);
  /// Ends the group where rank 0 of this node did not share the memory that all had agreed on.
  [[noreturn]] void fail_sharing(const CommError& error);

  /// Ends the group for all ranks, once; later calls have no effect and return false.
  bool end(Ending kind, int lost_rank, const std::string& reason, int lost_pid = -1) noexcept;

  /// Throws what ended the group, if anything did.
  void check_alive() {
    const ControlHeader& head = block_.header();
    const bool damaged = magic_ != 0 && head.magic != magic_;
    if (head.ending.load(std::memory_order_acquire) != 0 || damaged) [[unlikely]]
      throw_ending();
  }

  /// How late each rank came to the collectives so far. Any rank may ask at any time.
  std::vector<RankStatistics> statistics() const;

  const std::string& name() const { return name_; }

 private:
  void announce(uint64_t place);
  void arrive();
  void await_all();
  bool compare(bool& none_placed);
  bool all_arrived();
  bool has_arrived(int rank, uint32_t phase) const;
  void await_phase();
  void sleep_until_rung();
  template <class Condition>
  bool spin_and_yield(const Condition& is_met);
  void await_slowly(std::atomic<uint32_t>& count, uint32_t target, std::atomic<uint32_t>& waiters,
                    int peer);
  /// Ends the group where what others have written cannot be: a rank writes beyond its memory.
  void check_counts();
  [[noreturn]] void fail_damaged(int peer, const std::string& what);

  /// Ends the group where `peer` is gone and what it is to do is not done.
  template <class Condition>
  void check_life(int peer, const Condition& is_met);
  /// Ends the group where `peer`, who is awaited in a message, waits for this rank itself: in a
  /// collective, or in a message that goes the same way.
  void check_message_peer(int peer, const std::atomic<uint32_t>& count, uint32_t target);

  void write_record(const Call& call, uint64_t sequence);

  // Texts of what ends a group (control_report.cpp).
  std::string last_call(int rank) const;
  std::string describe_record(const Record& record) const;
  std::string describe_missing(int rank) const;
  void fail_lost(int peer, const std::string& why);
  void fail_timeout(int peer);
  void await_record(int rank) const;
  void fail_desync(unsigned parity);
  [[noreturn]] void throw_ending();

  std::shared_ptr<Region> region_;
  Peers& peers_;
  ControlBlock block_;
  std::string name_;
  uint64_t id_;
  double timeout_;
  std::vector<int> labels_;
  int rank_, size_;
  int spins_ = 1;                            ///< more where every rank has a CPU
  int64_t long_yield_ = 0, yield_span_ = 0;  ///< in ticks; 0 while a tick's length is not known
  int waits_without_yield_ = 0;
  int arrived_below_ = 0;  ///< ranks below this one are known to have arrived in this phase
  uint32_t phase_ = 0;
  uint64_t sequence_ = 0;
  uint64_t fingerprint_ = 0;
  CallKind kind_ = CallKind::none;
  uint64_t magic_ = 0;  ///< what the block begins with, once that is known
  weft::detail::CollectiveNotes notes_;
  Record* record_ = nullptr;
  uint64_t started_ = 0;  ///< ticks() of the running call
  double waited_ = -1;    ///< seconds that count for its deadline; below 0: no look so far
  TimePoint last_look_ = {};
  TickScale scale_;
  bool prints_statistics_;  ///< a node's part of a group leaves that to the group
  double patience_ = 0;
  pid_t owner_;  ///< the process whose rank this is: a forked child is not in the group
};

}  // namespace weft::inline v0::dist::detail
