// What a group says when it ends, and how late its ranks were.
#include <sched.h>

#include <algorithm>
#include <fstream>

#include <weft/core/base/check.hpp>
#include <weft/core/base/log.hpp>
#include <weft/dist/comm/control.hpp>
#include <weft/dist/comm/layout.hpp>

namespace weft::inline v0::dist::detail {

namespace {

constexpr auto relaxed = std::memory_order_relaxed;
constexpr int kMostDescribed = 8;  // of many missing ranks

/// What the kernel says that process `pid` does.
std::string process_state(int pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::string text;
  std::getline(file, text);
  const size_t end = text.rfind(") ");
  if (end == std::string::npos || end + 2 >= text.size()) return "gone";
  switch (text[end + 2]) {
    case 'R': return "running";
    case 'S':
    case 'I': return "sleeping";
    case 'D': return "blocked in the kernel";
    case 'T':
    case 't': return "stopped";
    default: return "dead";
  }
}

}  // namespace

std::string Control::describe_record(const Record& record) const {
  const uint64_t what = record.what.load(relaxed);
  // A record may be half written, or damaged: its numbers index tables.
  const bool sound = (what & 0xff) <= static_cast<uint64_t>(CallKind::recv) &&
                     (what >> 8 & 0xff) < static_cast<uint64_t>(kDTypeCount) &&
                     (what >> 16 & 0xff) <= static_cast<uint64_t>(ReduceOp::bxor) &&
                     (what >> 24 & 0xff) <= static_cast<uint64_t>(kMaxRank);
  if (!sound) return "a call whose record is damaged";
  Call call{.kind = static_cast<CallKind>(what & 0xff),
            .dtype = static_cast<DType>(what >> 8 & 0xff),
            .op = static_cast<ReduceOp>(what >> 16 & 0xff),
            .root = static_cast<int>(what >> 32) - 1};
  for (uint64_t i = 0; i < (what >> 24 & 0xff); ++i)
    call.shape.push_back(record.shape[i].load(relaxed));
  return describe(call, record.sequence.load(relaxed));
}

std::string Control::last_call(int rank) const {
  const uint64_t count = block_.line(rank).records.load(std::memory_order_acquire);
  return count == 0 ? "nothing so far" : describe_record(block_.record(rank, count - 1));
}

void Control::fail_lost(int peer, const std::string& why) {
  const int pid = block_.line(peer).pid.load(relaxed);
  end(Ending::lost, label(peer),
      fmt::format("{}: rank {} of group '{}' (pid {}) {}; its last call was {}", name_of(kind_),
                  label(peer), name_, pid, why, last_call(peer)),
      pid);
  throw_ending();
}

void Control::fail_sharing(const CommError& error) {
  if (dynamic_cast<const PeerLost*>(&error) != nullptr) fail_lost(0, "closed its connection");
  if (dynamic_cast<const TimeoutError*>(&error) != nullptr) fail_timeout(0);
  end(Ending::aborted, -1, error.what());
  throw_ending();
}

std::string Control::describe_missing(int rank) const {
  const RankLine& its = block_.line(rank);
  const int pid = its.pid.load(relaxed);
  std::string text = fmt::format("rank {} (pid {}, {}", label(rank), pid, process_state(pid));
  const uint64_t count = its.records.load(std::memory_order_acquire);
  if (count == 0) return text + "; it has called nothing so far)";
  const auto seconds_ago = [this](uint64_t stamp) {
    return static_cast<double>(ticks_since(stamp)) * scale_.seconds_per_tick();
  };
  const Record& last = block_.record(rank, count - 1);
  const uint64_t finished = last.finished.load(relaxed);
  if (finished != 0)
    return text + fmt::format("; last completed {}, {:.1f} s ago, outside of the group since)",
                              describe_record(last), seconds_ago(finished));
  text += fmt::format("; in {} for {:.1f} s", describe_record(last),
                      seconds_ago(last.started.load(relaxed)));
  if (count < 2) return text + ")";
  return text +
         fmt::format("; last completed {})", describe_record(block_.record(rank, count - 2)));
}

void Control::fail_damaged(int peer, const std::string& what) {
  end(Ending::aborted, -1,
      fmt::format("{}: the shared memory of group '{}' is damaged at rank {}: {}; some rank writes "
                  "beyond its memory",
                  name_of(kind_), name_, label(peer), what));
  throw_ending();
}

void Control::fail_timeout(int peer) {
  std::vector<int> arrived, missing;
  for (int other = 0; other < size_; ++other) {
    const bool is_missing = peer >= 0 ? other == peer : !has_arrived(other, phase_);
    if (is_missing)
      missing.push_back(other);
    else if (peer < 0 || other == rank_)
      arrived.push_back(label(other));
  }
  std::string details;
  for (size_t i = 0; i < std::min<size_t>(missing.size(), kMostDescribed); ++i)
    details += (i == 0 ? "" : ", ") + describe_missing(missing[i]);
  if (missing.size() > kMostDescribed)
    details += fmt::format(" and {} more", missing.size() - kMostDescribed);
  const std::string report = fmt::format(
      "{}: not complete after {:.4g} s in group '{}'; arrived: {}; missing: {}; "
      "WEFT_COLLECTIVE_TIMEOUT sets the limit",
      last_call(rank_), timeout_, name_, list_ranks(arrived), details);
  if (end(Ending::timeout, -1, report)) logging::error(report);
  throw_ending();
}

void Control::await_record(int rank) const {
  const TimePoint patience = deadline_after(0.1);
  const auto is_there = [&] {
    const uint64_t count = block_.line(rank).records.load(std::memory_order_acquire);
    return count != 0 && block_.record(rank, count - 1).sequence.load(relaxed) >= sequence_;
  };
  while (!is_there() && Clock::now() < patience) sched_yield();
}

void Control::fail_desync(unsigned parity) {
  struct Kind {
    uint64_t fingerprint;
    std::string call;
    std::vector<int> labels;
  };
  std::vector<Kind> kinds;
  for (int other = 0; other < size_; ++other) {
    const uint64_t its = block_.arrival(other, parity).fingerprint.load(relaxed);
    const auto known = std::find_if(kinds.begin(), kinds.end(),
                                    [&](const Kind& kind) { return kind.fingerprint == its; });
    await_record(other);  // a barrier's comes after its arrival
    if (known == kinds.end())
      kinds.push_back({its, last_call(other), {label(other)}});
    else
      known->labels.push_back(label(other));
  }
  std::string text;
  for (size_t i = 0; i < kinds.size(); ++i)
    text += fmt::format("{}{} called {}", i == 0 ? "" : "; ", list_ranks(kinds[i].labels),
                        kinds[i].call);
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

std::vector<RankStatistics> Control::statistics() const {
  const double seconds = scale_.seconds_per_tick();
  std::vector<RankStatistics> all;
  for (int rank = 0; rank < size_; ++rank) {
    const RankCounts& counts = block_.counts(rank);
    RankStatistics its{.rank = label(rank),
                       .calls = counts.calls.load(relaxed),
                       .last = counts.last.load(relaxed)};
    uint64_t total = 0, below = 0;
    for (const auto& bucket : counts.lateness) total += bucket.load(relaxed);
    for (int bucket = 0; bucket < kLatenessBuckets && total > 0; ++bucket) {
      const uint64_t before = below;
      below += counts.lateness[bucket].load(relaxed);
      const auto is_here = [&](double share) {
        const auto place = static_cast<uint64_t>(share * static_cast<double>(total - 1));
        return before <= place && place < below;
      };
      if (is_here(0.5)) its.lateness_p50 = lateness_ticks(bucket) * seconds;
      if (is_here(0.99)) its.lateness_p99 = lateness_ticks(bucket) * seconds;
    }
    all.push_back(its);
  }
  return all;
}

}  // namespace weft::inline v0::dist::detail
