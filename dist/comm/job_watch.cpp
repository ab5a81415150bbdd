// Note [Signs of life]
// Connections between hosts notice a process that ends, not a host that is switched off or a cable
// that is pulled. So one process of each node adds to a counter in the store once a second, and one
// looks at the next node's. Silence is counted in looks, not in time: a job that was stopped and
// continued as a whole has not been silent. The store's own host is watched by everybody: who has
// not reached the store for kSilence seconds ends its groups.
#include <algorithm>
#include <charconv>
#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include <weft/core/base/check.hpp>
#include <weft/dist/comm/job_watch.hpp>
#include <weft/dist/comm/signal_guard.hpp>
#include <weft/dist/store/clock.hpp>

namespace weft::inline v0::dist::detail {

namespace {

constexpr double kBeat = 1.0;  // seconds
// Beats: 5 s without a link, what one beat is late, and a new connection.
constexpr int kSilence = 7;
const std::string kFailureKey = "launch/failure";

struct Failure {
  int rank = -1;
  std::string text = {};
};

/// What kFailureKey says: watches write the rank in a line before the text, where one rank is lost;
/// launchers write text alone, which begins with the rank ("rank 3 (pid 77) ...") where it is one.
std::string encode(const Failure& failure) {
  return failure.rank < 0 ? failure.text : fmt::format("{}\n{}", failure.rank, failure.text);
}

Failure decode(const std::string& value) {
  constexpr std::string_view kRank = "rank ";
  const bool is_text = value.starts_with(kRank);
  const char* const begin = value.data() + (is_text ? kRank.size() : 0);
  const char* const end = value.data() + value.size();
  int rank = -1;
  const auto [after, error] = std::from_chars(begin, end, rank);
  if (error != std::errc() || after == end || *after != (is_text ? ' ' : '\n') || rank < 0)
    return {.text = value};
  return {.rank = rank, .text = is_text ? value : std::string(after + 1, end)};
}

class StoreWatch final : public JobWatch {
 public:
  StoreWatch(std::shared_ptr<Store> store, WatchedNodes nodes)
      : store_(std::move(store)), nodes_(std::move(nodes)) {
    const SignalGuard guard;
    thread_ = std::thread([this] { run(); });
    pthread_setname_np(thread_.native_handle(), "weft-watch");
  }

  ~StoreWatch() override {
    {
      const std::lock_guard lock(mutex_);
      ends_ = true;
    }
    changed_.notify_all();
    thread_.join();
    if (nodes_.speaks && !failure_) retire();
  }

  int add(GroupWatch group) override {
    const std::lock_guard lock(mutex_);
    if (failure_) group.on_failure(failure_->rank, failure_->text);
    groups_.emplace(++last_, std::move(group));
    return last_;
  }

  void remove(int number) noexcept override {
    const std::lock_guard lock(mutex_);
    groups_.erase(number);
  }

 private:
  bool ends() {
    const std::lock_guard lock(mutex_);
    return ends_;
  }

  void run() {
    double unreachable = 0;  // seconds
    int silent = 0;          // beats
    std::string last_seen;
    while (!ends()) {
      const TimePoint start = Clock::now();
      try {
        if (nodes_.speaks) store_->add(life_key(nodes_.node), 1, kBeat);
        // A launcher's word comes at once; this wait is the pause as well.
        if (look_at_failure(start)) return;
        beat();
        unreachable = 0;
        if (nodes_.speaks) {
          const std::string seen = store_->check({life_key(nodes_.next)}, kBeat)
                                       ? store_->get(life_key(nodes_.next), kBeat)
                                       : "";
          // A node that has not begun yet is missed by those that join it.
          silent = seen.empty() || seen != last_seen ? 0 : silent + 1;
          last_seen = seen;
        }
      } catch (const CommError&) {
        pause(start);
        // A call to a store that is gone may take more than its time; a process that was stopped
        // meanwhile has not missed the store all that time.
        unreachable += std::min(seconds_since(start), 3 * kBeat);
      }
      if (unreachable >= kSilence * kBeat)
        return tell({.text = fmt::format("the job's store has been out of reach for {:.0f} s; its "
                                         "host, or the network, is down",
                                         kSilence * kBeat)});
      if (silent >= kSilence) {
        const Failure failure{
            .rank = nodes_.next_rank,
            .text =
                fmt::format("host {} has given no sign of life for {:.0f} s; it, or the network, "
                            "is down",
                            nodes_.next_host, kSilence * kBeat)};
        publish(failure);
        return tell(failure);
      }
    }
  }

  /// Waits until the next beat for the word that the job has failed.
  bool look_at_failure(TimePoint start) {
    while (!ends() && seconds_since(start) < kBeat) try {
        tell(decode(store_->get(kFailureKey, nodes_.nap)));
        return true;
      } catch (const TimeoutError&) {
        continue;  // no word, or no store: one that answers says which
      }
    if (!ends()) store_->check({kFailureKey}, nodes_.nap);
    return false;
  }

  void beat() {
    const std::lock_guard lock(mutex_);
    for (const auto& [number, group] : groups_) group.on_beat();
  }

  void pause(TimePoint start) {
    std::unique_lock lock(mutex_);
    changed_.wait_until(lock, start + to_duration(kBeat), [this] { return ends_; });
  }

  void publish(const Failure& failure) {
    try {
      store_->compare_set(kFailureKey, "", encode(failure), kBeat);
    } catch (const CommError&) {
      return;  // the others see for themselves that the store is gone
    }
  }

  /// This process has left its groups, which may go on elsewhere: a counter that stops would be
  /// taken for a silent node, one that is not there is not missed.
  void retire() {
    try {
      store_->delete_key(life_key(nodes_.node), kBeat);
    } catch (const CommError&) {
      return;  // without the store nobody is watched
    }
  }

  void tell(const Failure& failure) {
    const std::lock_guard lock(mutex_);
    failure_ = failure;
    for (const auto& [number, group] : groups_) group.on_failure(failure.rank, failure.text);
  }

  static std::string life_key(int node) { return fmt::format("life/{}", node); }

  std::shared_ptr<Store> store_;
  WatchedNodes nodes_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<int, GroupWatch> groups_;
  std::optional<Failure> failure_;
  int last_ = 0;
  bool ends_ = false;
  std::thread thread_;
};

}  // namespace

std::shared_ptr<JobWatch> make_job_watch(std::shared_ptr<Store> store, WatchedNodes nodes) {
  return std::make_shared<StoreWatch>(std::move(store), std::move(nodes));
}

}  // namespace weft::inline v0::dist::detail
