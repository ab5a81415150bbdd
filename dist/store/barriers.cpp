#include <weft/dist/store/barriers.hpp>

#include <iterator>

#include <weft/core/base/check.hpp>
#include <weft/dist/store/store.hpp>

namespace weft::inline v0::dist::detail {

namespace {

std::string list_labels(const auto& arrivals) {
  constexpr size_t kShown = 8;
  std::string text;
  size_t shown = 0;
  for (const auto& [caller, arrival] : arrivals) {
    if (shown++ == kShown) break;
    text += (text.empty() ? "" : ", ") + arrival.label;
  }
  if (arrivals.size() > kShown) text += fmt::format(" and {} more", arrivals.size() - kShown);
  return text;
}

}  // namespace

StoreBarriers::Arrivals StoreBarriers::arrive(const std::string& name, int64_t count,
                                              const Caller& caller, Arrival arrival) {
  WEFT_CHECK(ArgumentError, count >= 1, "store: barrier '{}' of {}; the count starts at 1", name,
             count);
  WEFT_CHECK(CommError, due_.size() < kMaxStoreKeys, "store: too many calls wait at barriers");
  const auto at = barriers_.try_emplace(name, Barrier{.count = count, .arrivals = {}}).first;
  Barrier& barrier = at->second;
  WEFT_CHECK(ArgumentError, barrier.count == count,
             "store: barrier '{}': this call waits for {} in all, those before it ({}) for {}",
             name, count, list_labels(barrier.arrivals), barrier.count);
  const auto known = barrier.arrivals.find(caller);
  if (known != barrier.arrivals.end()) {  // repeated on another connection; its deadline stays
    known->second.connection = arrival.connection;
    return {};
  }
  due_.emplace(arrival.deadline, name, caller);
  barrier.arrivals.emplace(caller, std::move(arrival));
  if (static_cast<int64_t>(barrier.arrivals.size()) < count) return {};
  for (const auto& [who, when] : barrier.arrivals) due_.erase({when.deadline, name, who});
  Arrivals released(std::make_move_iterator(barrier.arrivals.begin()),
                    std::make_move_iterator(barrier.arrivals.end()));
  barriers_.erase(at);
  return released;
}

void StoreBarriers::take_out(std::map<std::string, Barrier>::iterator barrier,
                             const Caller& caller) {
  barrier->second.arrivals.erase(caller);
  if (barrier->second.arrivals.empty()) barriers_.erase(barrier);
}

void StoreBarriers::withdraw(const std::string& client) {
  std::erase_if(due_, [&](const Due& due) {
    const auto& [deadline, name, caller] = due;
    if (caller.client != client) return false;
    take_out(barriers_.find(name), caller);
    return true;
  });
}

std::optional<TimePoint> StoreBarriers::next_deadline() const {
  if (due_.empty()) return std::nullopt;
  return std::get<0>(*due_.begin());
}

std::vector<StoreBarriers::Late> StoreBarriers::expire(TimePoint now) {
  std::vector<Late> late;
  while (!due_.empty() && std::get<0>(*due_.begin()) <= now) {
    const auto [deadline, name, caller] = *due_.begin();
    const auto barrier = barriers_.find(name);
    const Arrival& arrival = barrier->second.arrivals.at(caller);
    std::string text = fmt::format(
        "store: barrier '{}': {} of {} calls arrived within {:.3g} s ({}); look for a rank that "
        "did not start, or that ended early",
        name, barrier->second.arrivals.size(), barrier->second.count,
        std::chrono::duration<double>(deadline - arrival.start).count(),
        list_labels(barrier->second.arrivals));
    late.push_back({caller, arrival, std::move(text)});
    due_.erase(due_.begin());
    take_out(barrier, caller);
  }
  return late;
}

}  // namespace weft::inline v0::dist::detail
