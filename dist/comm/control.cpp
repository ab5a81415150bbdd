#include <weft/dist/comm/control.hpp>

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include <weft/core/base/check.hpp>
#include <weft/dist/comm/cache_line.hpp>
#include <weft/dist/comm/statistics.hpp>

namespace weft::inline v0::dist::detail {

namespace {

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define WEFT_THREAD_SANITIZER
#endif
#endif
#if defined(__SANITIZE_THREAD__) && !defined(WEFT_THREAD_SANITIZER)
#define WEFT_THREAD_SANITIZER
#endif

constexpr uint64_t kMagic = 0x6d6d6f6374666577u;  // "weftcomm"
constexpr uint32_t kAbi = 2;
// See Note [Waiting]. A pause takes 10 to 150 cycles, depending on the CPU.
constexpr int kSpins = 100;
constexpr double kYieldSpan = 200e-6;
constexpr double kLongYield = 100e-6;
constexpr int kWaitsWithoutYield = 32;
constexpr auto kSlice = std::chrono::milliseconds(20);
constexpr double kLongestGap = 0.5;  // seconds, see Note [Time that counts]

constexpr auto relaxed = std::memory_order_relaxed;
constexpr auto seq_cst = std::memory_order_seq_cst;

void pause_cpu() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

bool reached(uint32_t count, uint32_t target) { return static_cast<int32_t>(count - target) >= 0; }

/// Between this thread's stores before and its loads after.
void full_fence() {
#ifdef WEFT_THREAD_SANITIZER
  // The thread sanitizer knows no fences; on the CPUs that it runs on this is one.
  static thread_local std::atomic<int> word;
  word.exchange(0, seq_cst);
#else
  std::atomic_thread_fence(seq_cst);
#endif
}

void sleep_on(std::atomic<uint32_t>& word, uint32_t value) {
  const timespec slice{0, std::chrono::nanoseconds(kSlice).count()};
  syscall(SYS_futex, &word, FUTEX_WAIT, value, &slice, nullptr, 0);
}

void wake_all(std::atomic<uint32_t>& word) {
  syscall(SYS_futex, &word, FUTEX_WAKE, std::numeric_limits<int>::max(), nullptr, nullptr, 0);
}

/// Notes which CPUs this process may run on.
void write_cpus(RankCpus& cpus) {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return;
  constexpr int kWords = std::extent_v<decltype(RankCpus::words)>;
  for (int cpu = 0; cpu < std::min<int>(CPU_SETSIZE, 64 * kWords); ++cpu)
    if (CPU_ISSET(cpu, &set))
      cpus.words[cpu / 64].store(cpus.words[cpu / 64].load(relaxed) | uint64_t{1} << (cpu % 64),
                                 relaxed);
}

/// How many CPUs the ranks have together, whether each is bound to its own or none is.
int count_cpus(const ControlBlock& block, int size) {
  int count = 0;
  for (size_t word = 0; word < std::extent_v<decltype(RankCpus::words)>; ++word) {
    uint64_t together = 0;
    for (int rank = 0; rank < size; ++rank) together |= block.cpus(rank).words[word].load(relaxed);
    count += std::popcount(together);
  }
  return count;
}

/// Ties the two words of an announcement together.
uint32_t check_of(uint64_t fingerprint, uint64_t place) {
  const uint64_t both = (fingerprint ^ std::rotl(place, 17)) * 0x9e3779b97f4a7c15u;
  return static_cast<uint32_t>(both >> 32);
}

// Counters that one rank writes and others may read need no read-modify-write.
void increase(std::atomic<uint64_t>& counter) { counter.store(counter.load(relaxed) + 1, relaxed); }

/// Notes for the launcher that the call begins.
void note_begin(weft::detail::CollectiveNotes& notes, const Call& call, uint64_t sequence) {
  const uint64_t key = static_cast<uint64_t>(call.kind) | static_cast<uint64_t>(call.dtype) << 8 |
                       static_cast<uint64_t>(call.op) << 16 |
                       static_cast<uint64_t>(call.root + 1) << 32;
  const bool reduces = call.kind == CallKind::all_reduce || call.kind == CallKind::reduce_scatter;
  const bool to = call.kind == CallKind::gather || call.kind == CallKind::send;
  notes.begin(sequence, key,
              {.name = name_of(call.kind),
               .dtype = call.kind == CallKind::barrier ? "" : weft::name_of(call.dtype).data(),
               .op = reduces ? name_of(call.op) : "",
               .peer = call.root < 0 ? "" : (to ? "to rank" : "from rank"),
               .root = call.root,
               .shape = call.shape.begin(),
               .dims = call.shape.rank()});
}

}  // namespace

Control::Control(std::shared_ptr<Region> region, Peers& peers, std::string name, uint64_t id,
                 double timeout, std::vector<int> labels)
    : region_(std::move(region)),
      peers_(peers),
      block_(region_->data(), peers.size()),
      name_(std::move(name)),
      id_(id),
      timeout_(timeout),
      labels_(std::move(labels)),
      rank_(peers.rank()),
      size_(peers.size()),
      notes_(name_),
      prints_statistics_(rank_ == 0 && labels_.empty() && wants_statistics()),
      owner_(getpid()) {
  ControlHeader& head = block_.header();
  if (rank_ == 0) {
    head.magic = kMagic;
    head.abi = kAbi;
    head.size = static_cast<uint32_t>(size_);
    head.bytes = region_->bytes();
    head.ready.store(1, std::memory_order_release);
  }
  block_.line(rank_).pid.store(owner_, relaxed);
  write_cpus(block_.cpus(rank_));
  // Everybody's first arrival: from here on the header holds and all have mapped the region.
  begin({.kind = CallKind::barrier});
  bool none_placed = false;
  meet(0, none_placed);
  WEFT_CHECK(CommError,
             head.ready.load(std::memory_order_acquire) == 1 && head.magic == kMagic &&
                 head.abi == kAbi && head.size == static_cast<uint32_t>(size_) &&
                 head.bytes == region_->bytes(),
             "group '{}': the shared control block is not of this version of weft; start all ranks "
             "with the same library",
             name_);
  magic_ = kMagic;
  if (size_ <= count_cpus(block_, size_)) spins_ = kSpins;
  const double tick = scale_.seconds_per_tick();
  long_yield_ = static_cast<int64_t>(kLongYield / tick);
  yield_span_ = static_cast<int64_t>(kYieldSpan / tick);
  finish();
}

Control::~Control() {
  if (getpid() != owner_) return;
  if (prints_statistics_) std::fputs(statistics_table(name_, statistics()).c_str(), stderr);
  block_.line(rank_).left.store(1, std::memory_order_release);
  wake_all(block_.header().bell);
}

void Control::write_record(const Call& call, uint64_t sequence) {
  RankLine& mine = block_.line(rank_);
  const uint64_t index = mine.records.load(relaxed);
  record_ = &block_.record(rank_, index);
  record_->sequence.store(sequence, relaxed);
  record_->what.store(static_cast<uint64_t>(call.kind) | static_cast<uint64_t>(call.dtype) << 8 |
                          static_cast<uint64_t>(call.op) << 16 |
                          static_cast<uint64_t>(call.shape.rank()) << 24 |
                          static_cast<uint64_t>(call.root + 1) << 32,
                      relaxed);
  record_->started.store(started_, relaxed);
  record_->finished.store(0, relaxed);
  for (int i = 0; i < call.shape.rank(); ++i) record_->shape[i].store(call.shape[i], relaxed);
  mine.records.store(index + 1, std::memory_order_release);
  note_begin(notes_, call, sequence);
}

void Control::begin(const Call& call) {
  check_alive();
  kind_ = call.kind;
  started_ = ticks();
  waited_ = -1;
  patience_ = 0;
  fingerprint_ = fingerprint(id_, ++sequence_, call);
  write_record(call, sequence_);
}

uint64_t Control::begin_message(const Call& call, uint64_t sequence) {
  Call labelled = call;
  labelled.root = label(call.root);
  return begin_remote_message(labelled, sequence);
}

uint64_t Control::begin_remote_message(const Call& call, uint64_t sequence) {
  check_alive();
  kind_ = call.kind;
  started_ = ticks();
  waited_ = -1;
  patience_ = 0;
  write_record(call, sequence);
  return fingerprint(id_, sequence, call);
}

void Control::finish() {
  record_->finished.store(ticks(), relaxed);
  notes_.finish();
}

double Control::elapsed() const {
  return static_cast<double>(ticks_since(started_)) * scale_.seconds_per_tick();
}

bool Control::is_late(double beyond) {
  const TimePoint before = std::exchange(last_look_, Clock::now());
  const double passed =
      waited_ < 0 ? elapsed() : std::chrono::duration<double>(last_look_ - before).count();
  waited_ = std::max(waited_, 0.0) + std::min(passed, kLongestGap);
  return waited_ > timeout_ + beyond;
}

template <class Condition>
bool Control::spin_and_yield(const Condition& is_met) {
  for (int i = 0; i < spins_; ++i) {
    if (is_met()) return true;
    pause_cpu();
  }
  if (waits_without_yield_ > 0) {
    --waits_without_yield_;
    return is_met();
  }
  const auto longer = [](uint64_t since, uint64_t until, int64_t limit) {
    return static_cast<int64_t>(until - since) > limit;  // another CPU's counter may be behind
  };
  const uint64_t start = ticks();
  for (uint64_t before = start;;) {
    sched_yield();
    const uint64_t now = ticks();
    const bool was_long = longer(before, now, long_yield_);
    if (was_long) waits_without_yield_ = kWaitsWithoutYield;
    if (is_met()) return true;
    if (was_long || longer(start, now, yield_span_)) return false;
    before = now;
  }
}

template <class Condition>
void Control::check_life(int peer, const Condition& is_met) {
  if (is_met()) return;
  // A rank that did its part and then ended is no loss: that is looked at once more.
  if (block_.line(peer).left.load(std::memory_order_acquire) != 0) {
    if (!is_met()) fail_lost(peer, "left the group");
  } else if (const auto why = peers_.gone(peer)) {
    if (!is_met()) fail_lost(peer, *why);
  }
}

void Control::signal(std::atomic<uint32_t>& count, std::atomic<uint32_t>& waiters) {
  count.fetch_add(1, seq_cst);
  if (waiters.load(seq_cst) != 0) wake_all(count);
}

void Control::await(std::atomic<uint32_t>& count, uint32_t target, std::atomic<uint32_t>& waiters,
                    int peer) {
  const auto is_reached = [&] { return reached(count.load(std::memory_order_acquire), target); };
  if (!spin_and_yield(is_reached)) await_slowly(count, target, waiters, peer);
}

void Control::await_slowly(std::atomic<uint32_t>& count, uint32_t target,
                           std::atomic<uint32_t>& waiters, int peer) {
  const auto is_reached = [&] { return reached(count.load(std::memory_order_acquire), target); };
  while (true) {
    check_message_peer(peer, count, target);
    waiters.fetch_add(1, seq_cst);
    const uint32_t seen = count.load(seq_cst);
    if (!reached(seen, target) && block_.header().ending.load(seq_cst) == 0) sleep_on(count, seen);
    waiters.fetch_sub(1, relaxed);
    if (is_reached()) return;
    check_alive();
    check_life(peer, is_reached);
    if (is_reached()) return;
    if (is_late(patience_)) fail_timeout(peer);
  }
}

void Control::check_message_peer(int peer, const std::atomic<uint32_t>& count, uint32_t target) {
  // The peer cannot have completed a phase that this rank has not come to: it waits there for good,
  // unless it did its part of the message before. Nor can it go on where it is in a send to this
  // rank, which is in one itself, or both are in a recv: there one count is ahead of the other.
  const bool sends = kind_ == CallKind::send;
  const Channel& back = sends ? channel(peer, rank_) : channel(rank_, peer);
  const uint32_t its = (sends ? back.sent : back.taken).load(std::memory_order_acquire);
  const uint32_t own = (sends ? back.taken : back.sent).load(relaxed);
  const bool crosses = static_cast<int32_t>(its - own) > 0;
  if (!crosses && !has_arrived(peer, phase_ + 1)) return;
  if (!reached(count.load(std::memory_order_acquire), target)) fail_message(peer);
}

bool Control::has_arrived(int rank, uint32_t phase) const {
  return reached(block_.arrival(rank, phase & 1u).phase.load(std::memory_order_acquire), phase);
}

bool Control::all_arrived() {
  for (; arrived_below_ < size_; ++arrived_below_)
    // Two phases ago, or this one: any other count is damage, which check_counts finds.
    if (block_.arrival(arrived_below_, phase_ & 1u).phase.load(std::memory_order_acquire) != phase_)
      return false;
  return true;
}

void Control::arrive() {
  ++phase_;
  arrived_below_ = 0;
  block_.arrival(rank_, phase_ & 1u).phase.store(phase_, std::memory_order_release);
}

void Control::await_all() {
  if (!all_arrived()) await_phase();
  // All have read what this rank announced two phases ago; the line comes while they go on.
  fetch_to_write(&block_.arrival(rank_, next_parity()));
  full_fence();
  ControlHeader& head = block_.header();
  if (head.sleepers.load(relaxed) == 0) [[likely]]
    return;
  head.bell.fetch_add(1, seq_cst);
  wake_all(head.bell);
}

void Control::await_phase() {
  if (spin_and_yield([this] { return all_arrived(); })) return;
  while (true) {
    sleep_until_rung();
    if (all_arrived()) return;
    check_alive();
    check_counts();
    // Any rank that is yet to come may be the one that never will.
    for (int other = 0; other < size_; ++other)
      if (other != rank_) check_life(other, [&] { return has_arrived(other, phase_); });
    if (all_arrived()) return;
    if (is_late(patience_)) fail_timeout(-1);
  }
}

void Control::check_counts() {
  for (int other = 0; other < size_; ++other) {
    const uint32_t count = block_.arrival(other, phase_ & 1u).phase.load(std::memory_order_acquire);
    if (count != phase_ && count + 2 != phase_ && (count != 0 || phase_ > 2))
      fail_damaged(other, fmt::format("its count is {}, where {} was due", count, phase_));
  }
}

void Control::sleep_until_rung() {
  ControlHeader& head = block_.header();
  head.sleepers.fetch_add(1, seq_cst);
  full_fence();
  const uint32_t rung = head.bell.load(seq_cst);
  if (!all_arrived() && head.ending.load(seq_cst) == 0) sleep_on(head.bell, rung);
  head.sleepers.fetch_sub(1, relaxed);
}

void Control::announce(uint64_t place) {
  Arrival& mine = block_.arrival(rank_, next_parity());
  mine.fingerprint.store(fingerprint_, relaxed);
  mine.place.store(place, relaxed);
  mine.check.store(check_of(fingerprint_, place), relaxed);
  mine.stamp.store(started_, relaxed);
}

bool Control::meet(uint64_t place, bool& none_placed) {
  announce(place);
  sync();
  return compare(none_placed);
}

void Control::barrier() {
  check_alive();
  kind_ = CallKind::barrier;
  started_ = ticks();
  waited_ = -1;
  const Call call{.kind = CallKind::barrier};
  fingerprint_ = fingerprint(id_, ++sequence_, call);
  announce(0);
  arrive();
  write_record(call, sequence_);  // while the cache lines travel
  await_all();
  bool none_placed = false;
  compare(none_placed);
  finish();
}

/// What all announced for the phase that is complete.
bool Control::compare(bool& none_placed) {
  const unsigned parity = phase_ & 1u;
  const uint64_t place = block_.arrival(rank_, parity).place.load(relaxed);
  bool agree = true, same_place = place != 0;
  none_placed = true;
  uint64_t first = started_, last = started_;
  for (int other = 0; other < size_; ++other) {
    const Arrival& its = block_.arrival(other, parity);
    const uint64_t its_fingerprint = its.fingerprint.load(relaxed);
    const uint64_t its_place = its.place.load(relaxed);
    if (its.check.load(relaxed) != check_of(its_fingerprint, its_place)) [[unlikely]]
      fail_damaged(other, "its announcement contradicts itself");
    agree &= its_fingerprint == fingerprint_;
    same_place &= its_place == place;
    none_placed &= its_place == 0;
    const uint64_t stamp = its.stamp.load(relaxed);
    first = std::min(first, stamp);
    last = std::max(last, stamp);
  }
  if (!agree) [[unlikely]]
    fail_desync(parity);
  RankCounts& counts = block_.counts(rank_);
  increase(counts.calls);
  if (started_ == last) increase(counts.last);
  increase(counts.lateness[lateness_bucket(started_ - first)]);
  return same_place;
}

bool Control::end(Ending kind, int lost_rank, const std::string& reason, int lost_pid) noexcept {
  ControlHeader& head = block_.header();
  uint32_t none = 0;
  if (!head.ending.compare_exchange_strong(none, 1, seq_cst)) return false;
  head.kind = kind;
  head.lost_rank = lost_rank;
  head.lost_pid = lost_pid;
  const size_t length = std::min<size_t>(reason.size(), kReasonSize - 1);
  std::memcpy(head.reason, reason.data(), length);
  head.reason[length] = '\0';
  head.ending.store(2, seq_cst);
  head.bell.fetch_add(1, seq_cst);
  wake_all(head.bell);
  for (int from = 0; from < size_; ++from)
    for (int to = 0; to < size_; ++to) {
      wake_all(channel(from, to).sent);
      wake_all(channel(from, to).taken);
    }
  return true;
}

void Control::throw_ending() {
  const ControlHeader& head = block_.header();
  // The rank that ends the group may itself be killed while it writes why.
  const TimePoint patience = deadline_after(0.1);
  while (head.ending.load(std::memory_order_acquire) == 1 && Clock::now() < patience) sched_yield();
  if (head.ending.load(std::memory_order_acquire) > 2 || (magic_ != 0 && head.magic != magic_))
    throw CommError(
        fmt::format("group '{}': its shared memory is damaged; some rank writes beyond "
                    "its memory",
                    name_));
  if (head.ending.load(std::memory_order_acquire) != 2)
    throw CommError(fmt::format("group '{}': ended by a rank that died doing so", name_));
  const std::string reason(head.reason, strnlen(head.reason, kReasonSize));
  const bool lost = head.kind == Ending::lost;
  weft::detail::note_group_ended(lost ? head.lost_rank : -1, lost ? head.lost_pid : -1, reason);
  switch (head.kind) {
    case Ending::lost: throw PeerLost(head.lost_rank, reason);
    case Ending::timeout: throw TimeoutError(reason);
    case Ending::desync: throw DesyncError(reason);
    default: throw CommError(reason);
  }
}

}  // namespace weft::inline v0::dist::detail
