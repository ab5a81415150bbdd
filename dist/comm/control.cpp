#include <weft/dist/comm/control.hpp>

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <limits>
#include <utility>

#include <weft/core/base/check.hpp>

namespace weft::inline v0::dist::detail {

namespace {

constexpr uint64_t kMagic = 0x6d6d6f6374666577u;  // "weftcomm"
constexpr uint32_t kAbi = 1;
constexpr int kSpins = 2000;  // some 100 us
constexpr auto kSlice = std::chrono::milliseconds(20);

size_t round_up(size_t value, size_t unit) { return (value + unit - 1) / unit * unit; }

size_t lines_at() { return round_up(sizeof(ControlHeader), 64); }
size_t records_at(int size) { return lines_at() + sizeof(RankLine) * static_cast<size_t>(size); }
size_t channels_at(int size) {
  return round_up(records_at(size) + sizeof(Record) * kRecords * static_cast<size_t>(size), 64);
}

void pause_cpu() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

bool reached(uint32_t count, uint32_t target) { return static_cast<int32_t>(count - target) >= 0; }

void sleep_on(std::atomic<uint32_t>& word, uint32_t value) {
  const timespec slice{0, std::chrono::nanoseconds(kSlice).count()};
  syscall(SYS_futex, &word, FUTEX_WAIT, value, &slice, nullptr, 0);
}

void wake_all(std::atomic<uint32_t>& word) {
  syscall(SYS_futex, &word, FUTEX_WAKE, std::numeric_limits<int>::max(), nullptr, nullptr, 0);
}

int usable_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now().time_since_epoch())
      .count();
}

/// " (stopped)" where the kernel says that process `pid` is, else nothing.
std::string stopped_note(int pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::string text;
  std::getline(file, text);
  const size_t end = text.rfind(") ");
  if (end == std::string::npos || end + 2 >= text.size()) return "";
  const char state = text[end + 2];
  return state == 'T' || state == 't' ? ", which is stopped" : "";
}

}  // namespace

size_t Control::bytes_for(int size) {
  const auto ranks = static_cast<size_t>(size);
  return round_up(channels_at(size) + sizeof(Channel) * ranks * ranks, 4096);
}

Control::Control(std::shared_ptr<Region> region, Peers& peers, std::string name, uint64_t id,
                 double timeout, std::vector<int> labels)
    : region_(std::move(region)),
      peers_(peers),
      name_(std::move(name)),
      id_(id),
      timeout_(timeout),
      labels_(std::move(labels)),
      rank_(peers.rank()),
      size_(peers.size()),
      spins_(size_ <= usable_cpus() ? kSpins : 0),
      start_(Clock::now()) {
  ControlHeader& head = header();
  if (rank_ == 0) {
    head.magic = kMagic;
    head.abi = kAbi;
    head.size = static_cast<uint32_t>(size_);
    head.bytes = region_->bytes();
    head.ready.store(1, std::memory_order_release);
  }
  line(rank_).pid.store(getpid(), std::memory_order_relaxed);
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
  finish();
}

Control::~Control() {
  line(rank_).left.store(1, std::memory_order_release);
  wake_all(line(rank_).arrived);
}

ControlHeader& Control::header() const {
  return *reinterpret_cast<ControlHeader*>(region_->data());
}
RankLine& Control::line(int rank) const {
  return reinterpret_cast<RankLine*>(region_->data() + lines_at())[rank];
}
Record& Control::record(int rank, uint64_t index) const {
  auto* records = reinterpret_cast<Record*>(region_->data() + records_at(size_));
  return records[static_cast<uint64_t>(rank) * kRecords + index % kRecords];
}
Channel& Control::channel(int from, int to) const {
  auto* channels = reinterpret_cast<Channel*>(region_->data() + channels_at(size_));
  return channels[from * size_ + to];
}

void Control::write_record(const Call& call, uint64_t sequence) {
  RankLine& mine = line(rank_);
  const uint64_t index = mine.records.load(std::memory_order_relaxed);
  record_ = &record(rank_, index);
  constexpr auto relaxed = std::memory_order_relaxed;
  record_->sequence.store(sequence, relaxed);
  record_->what.store(static_cast<uint64_t>(call.kind) | static_cast<uint64_t>(call.dtype) << 8 |
                          static_cast<uint64_t>(call.op) << 16 |
                          static_cast<uint64_t>(call.shape.rank()) << 24 |
                          static_cast<uint64_t>(call.root + 1) << 32,
                      relaxed);
  record_->started_ns.store(now_ns(), relaxed);
  record_->done.store(0, relaxed);
  for (int i = 0; i < call.shape.rank(); ++i) record_->shape[i].store(call.shape[i], relaxed);
  mine.records.store(index + 1, std::memory_order_release);
}

std::string Control::last_call(int rank) const {
  const uint64_t count = line(rank).records.load(std::memory_order_acquire);
  if (count == 0) return "nothing so far";
  const Record& last = record(rank, count - 1);
  constexpr auto relaxed = std::memory_order_relaxed;
  const uint64_t what = last.what.load(relaxed);
  Call call{.kind = static_cast<CallKind>(what & 0xff),
            .dtype = static_cast<DType>(what >> 8 & 0xff),
            .op = static_cast<ReduceOp>(what >> 16 & 0xff),
            .root = static_cast<int>(what >> 32) - 1};
  for (uint64_t i = 0; i < (what >> 24 & 0xff); ++i)
    call.shape.push_back(last.shape[i].load(relaxed));
  return describe(call, last.sequence.load(relaxed));
}

void Control::begin(const Call& call) {
  check_alive();
  call_ = call;
  start_ = Clock::now();
  fingerprint_ = fingerprint(id_, ++sequence_, call);
  write_record(call, sequence_);
}

uint64_t Control::begin_message(const Call& call, uint64_t sequence) {
  check_alive();
  call_ = call;
  call_.root = label(call.root);
  start_ = Clock::now();
  write_record(call_, sequence);
  return fingerprint(id_, sequence, call);
}

void Control::finish() { record_->done.store(1, std::memory_order_relaxed); }

void Control::signal(std::atomic<uint32_t>& count, std::atomic<uint32_t>& waiters) {
  count.fetch_add(1, std::memory_order_seq_cst);
  if (waiters.load(std::memory_order_seq_cst) != 0) wake_all(count);
}

void Control::arrive() {
  ++phase_;
  signal(line(rank_).arrived, line(rank_).waiters);
}

void Control::await(std::atomic<uint32_t>& count, uint32_t target, std::atomic<uint32_t>& waiters,
                    int peer) {
  for (int i = 0; i <= spins_; ++i) {
    if (reached(count.load(std::memory_order_acquire), target)) return;
    pause_cpu();
  }
  await_slowly(count, target, waiters, peer);
}

void Control::check_life(int peer, const std::atomic<uint32_t>& count, uint32_t target) {
  const auto is_reached = [&] { return reached(count.load(std::memory_order_acquire), target); };
  if (is_reached()) return;
  // A rank that arrived and then ended has done its part: the count is looked at once more.
  if (line(peer).left.load(std::memory_order_acquire) != 0) {
    if (!is_reached()) fail_lost(peer, "left the group");
  } else if (const auto why = peers_.gone(peer)) {
    if (!is_reached()) fail_lost(peer, *why);
  }
}

void Control::await_slowly(std::atomic<uint32_t>& count, uint32_t target,
                           std::atomic<uint32_t>& waiters, int peer) {
  const auto is_reached = [&] { return reached(count.load(std::memory_order_acquire), target); };
  while (true) {
    waiters.fetch_add(1, std::memory_order_seq_cst);
    const uint32_t seen = count.load(std::memory_order_seq_cst);
    if (!reached(seen, target) && header().ending.load(std::memory_order_seq_cst) == 0)
      sleep_on(count, seen);
    waiters.fetch_sub(1, std::memory_order_relaxed);
    if (is_reached()) return;
    check_alive();
    // In a phase any rank that is yet to come may be the one that never will.
    if (&count != &line(peer).arrived) {
      check_life(peer, count, target);
    } else {
      for (int other = 0; other < size_; ++other)
        if (other != rank_) check_life(other, line(other).arrived, target);
    }
    if (is_reached()) return;
    if (seconds_since(start_) > timeout_) fail_timeout(peer);
  }
}

void Control::await_all() {
  for (int other = 0; other < size_; ++other)
    if (other != rank_) await(line(other).arrived, phase_, line(other).waiters, other);
}

void Control::sync() {
  arrive();
  await_all();
}

bool Control::meet(uint64_t place, bool& none_placed) {
  const unsigned parity = next_parity();
  line(rank_).fingerprint[parity].store(fingerprint_, std::memory_order_relaxed);
  line(rank_).place[parity].store(place, std::memory_order_relaxed);
  sync();
  bool agree = true, same_place = place != 0;
  none_placed = true;
  for (int other = 0; other < size_; ++other) {
    agree &= line(other).fingerprint[parity].load(std::memory_order_relaxed) == fingerprint_;
    const uint64_t its_place = line(other).place[parity].load(std::memory_order_relaxed);
    same_place &= its_place == place;
    none_placed &= its_place == 0;
  }
  if (!agree) [[unlikely]]
    fail_desync(parity);
  return same_place;
}

bool Control::has_arrived(int rank) const {
  return reached(line(rank).arrived.load(std::memory_order_acquire), phase_);
}

void Control::end(Ending kind, int lost_rank, const std::string& reason) noexcept {
  ControlHeader& head = header();
  uint32_t none = 0;
  if (!head.ending.compare_exchange_strong(none, 1, std::memory_order_seq_cst)) return;
  head.kind = kind;
  head.lost_rank = lost_rank;
  const size_t length = std::min<size_t>(reason.size(), kReasonSize - 1);
  std::memcpy(head.reason, reason.data(), length);
  head.reason[length] = '\0';
  head.ending.store(2, std::memory_order_seq_cst);
  for (int other = 0; other < size_; ++other) {
    wake_all(line(other).arrived);
    for (int to = 0; to < size_; ++to) {
      wake_all(channel(other, to).sent);
      wake_all(channel(other, to).taken);
    }
  }
}

void Control::check_alive() {
  if (header().ending.load(std::memory_order_acquire) != 0) [[unlikely]]
    throw_ending();
}

void Control::throw_ending() {
  const ControlHeader& head = header();
  // The rank that ends the group may itself be killed while it writes why.
  const TimePoint patience = deadline_after(0.1);
  while (head.ending.load(std::memory_order_acquire) != 2 && Clock::now() < patience) sched_yield();
  if (head.ending.load(std::memory_order_acquire) != 2)
    throw CommError(fmt::format("group '{}': ended by a rank that died doing so", name_));
  const std::string reason(head.reason);
  switch (head.kind) {
    case Ending::lost: throw PeerLost(head.lost_rank, reason);
    case Ending::timeout: throw TimeoutError(reason);
    case Ending::desync: throw DesyncError(reason);
    default: throw CommError(reason);
  }
}

void Control::fail_lost(int peer, const std::string& why) {
  end(Ending::lost, label(peer),
      fmt::format("{}: rank {} of group '{}' (pid {}) {}; its last call was {}",
                  name_of(call_.kind), label(peer), name_,
                  line(peer).pid.load(std::memory_order_relaxed), why, last_call(peer)));
  throw_ending();
}

void Control::fail_timeout(int peer) {
  const bool message = call_.kind == CallKind::send || call_.kind == CallKind::recv;
  std::string missing;
  for (int other = 0; other < size_; ++other) {
    if (message ? other != peer : has_arrived(other)) continue;
    const RankLine& its = line(other);
    const uint64_t count = its.records.load(std::memory_order_acquire);
    const bool done =
        count != 0 && record(other, count - 1).done.load(std::memory_order_relaxed) != 0;
    const int pid = its.pid.load(std::memory_order_relaxed);
    missing += fmt::format("{}rank {} (pid {}{}; last call: {}, {})", missing.empty() ? "" : ", ",
                           label(other), pid, stopped_note(pid), last_call(other),
                           done ? "completed" : "under way");
  }
  end(Ending::timeout, label(peer),
      fmt::format("{}: in group '{}', rank {} waited {:.4g} s for {}; "
                  "WEFT_COLLECTIVE_TIMEOUT sets the limit",
                  last_call(rank_), name_, label(rank_), timeout_, missing));
  throw_ending();
}

void Control::fail_desync(unsigned parity) {
  std::vector<std::pair<uint64_t, std::string>> kinds;  // fingerprint, the ranks that have it
  std::vector<std::string> calls;
  for (int other = 0; other < size_; ++other) {
    const uint64_t its = line(other).fingerprint[parity].load(std::memory_order_relaxed);
    const auto known = std::find_if(kinds.begin(), kinds.end(),
                                    [&](const auto& entry) { return entry.first == its; });
    if (known != kinds.end()) {
      known->second += fmt::format(", {}", label(other));
      continue;
    }
    kinds.emplace_back(its, std::to_string(label(other)));
    calls.push_back(last_call(other));
  }
  std::string text;
  for (size_t i = 0; i < kinds.size(); ++i)
    text += fmt::format("{}rank{} {} called {}", i == 0 ? "" : "; ",
                        kinds[i].second.find(',') == std::string::npos ? "" : "s", kinds[i].second,
                        calls[i]);
  end(Ending::desync, -1,
      fmt::format("group '{}': the ranks called different collectives: {}; all must make the same "
                  "calls in the same order",
                  name_, text));
  throw_ending();
}

void Control::fail_message(int peer) {
  const int first = std::min(rank_, peer), second = std::max(rank_, peer);
  end(Ending::desync, -1,
      fmt::format("group '{}': send and recv do not match: rank {} called {}; rank {} called {}",
                  name_, label(first), last_call(first), label(second), last_call(second)));
  throw_ending();
}

}  // namespace weft::inline v0::dist::detail
