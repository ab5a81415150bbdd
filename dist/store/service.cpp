#include <weft/dist/store/service.hpp>

#include <weft/core/base/check.hpp>
#include <weft/dist/store/bytes.hpp>
#include <weft/dist/store/store.hpp>

namespace weft::inline v0::dist::detail {

namespace {

constexpr size_t kMaxSessions = 64 * 1024;
constexpr size_t kMaxReplies = 1024;  // of one client, not yet acknowledged
constexpr size_t kMaxWaits = 1024;    // of one connection

}  // namespace

StoreService::StoreService(std::function<void(uint64_t, std::string)> send)
    : send_(std::move(send)) {}

void StoreService::handle(uint64_t connection, const std::string& client, const Request& request,
                          TimePoint now) {
  if (changes_store(request.kind)) {
    send_(connection, change_once(client, request));
    if (request.kind != FrameKind::erase) wake(request.strings[0]);
  } else if (request.kind == FrameKind::check) {
    const bool all = table_.missing(request.strings).empty();
    send_(connection, make_frame(FrameKind::value, request.id, all ? "1" : "0"));
  } else {
    start_wait(connection, request, now);
  }
}

// Note [Requests count once]
// A client whose connection breaks cannot know whether its last requests were done, so it repeats
// them, with the same ids, on the next connection. The server keeps the reply to each request that
// changed the store, per client id, and answers a repeated one from there. Every request names the
// lowest id that its client still waits for; replies below it are dropped, which bounds the memory,
// and a late copy of a request below it (from the old connection's buffers) is not done again.
std::string StoreService::change_once(const std::string& client, const Request& request) {
  if (sessions_.size() >= kMaxSessions && !sessions_.contains(client))
    return make_frame(FrameKind::refused, request.id, "store: too many clients");
  Session& session = sessions_[client];
  if (request.id < session.acknowledged)
    return make_frame(FrameKind::refused, request.id, "store: a request that was answered before");
  if (const auto done = session.replies.find(request.id); done != session.replies.end())
    return done->second;
  session.acknowledged = std::max(session.acknowledged, request.acknowledged);
  session.replies.erase(session.replies.begin(), session.replies.lower_bound(session.acknowledged));
  if (session.replies.size() >= kMaxReplies)
    return make_frame(FrameKind::refused, request.id, "store: too many requests at once");
  return session.replies.emplace(request.id, change(request)).first->second;
}

std::string StoreService::change(const Request& request) {
  const std::vector<std::string>& in = request.strings;
  std::string result;
  try {
    switch (request.kind) {
      case FrameKind::set: table_.set(in[0], in[1]); break;
      case FrameKind::add: put<int64_t>(result, table_.add(in[0], request.amount)); break;
      case FrameKind::compare_set: result = table_.compare_set(in[0], in[1], in[2]); break;
      default: result.push_back(table_.erase(in[0]) ? '1' : '0'); break;
    }
  } catch (const ArgumentError& error) {
    return make_frame(FrameKind::argument, request.id, error.what());
  } catch (const CommError& error) {
    return make_frame(FrameKind::refused, request.id, error.what());
  }
  return make_frame(FrameKind::value, request.id, result);
}

void StoreService::publish(std::string_view key, std::string_view value) {
  table_.set(key, value);
  wake(std::string(key));
}

void StoreService::start_wait(uint64_t connection, const Request& request, TimePoint now) {
  if (request.strings.empty()) {  // nothing to wait for
    send_(connection, make_frame(FrameKind::value, request.id, ""));
    return;
  }
  auto& mine = by_connection_[connection];
  if (mine.size() >= kMaxWaits) {
    send_(connection, make_frame(FrameKind::refused, request.id, "store: too many waits at once"));
    return;
  }
  const uint64_t id = next_waiter_++;
  const double timeout = static_cast<double>(request.timeout_us) * 1e-6;
  Waiter waiter{.connection = connection,
                .request = request.id,
                .wants_value = request.kind == FrameKind::get,
                .keys = request.strings,
                .start = now,
                .deadline = now + to_duration(timeout)};
  mine.insert(id);
  by_deadline_.emplace(waiter.deadline, id);
  for (const std::string& key : waiter.keys) by_key_[key].insert(id);
  waiters_.emplace(id, std::move(waiter));
  wake(request.strings[0]);
}

void StoreService::wake(const std::string& key) {
  const auto found = by_key_.find(key);
  if (found == by_key_.end() || table_.find(key) == nullptr) return;
  const std::vector<uint64_t> candidates(found->second.begin(), found->second.end());
  for (const uint64_t id : candidates) {
    const Waiter& waiter = waiters_.at(id);
    if (!table_.missing(waiter.keys).empty()) continue;
    send_(waiter.connection,
          make_frame(FrameKind::value, waiter.request,
                     waiter.wants_value ? *table_.find(waiter.keys[0]) : std::string()));
    drop(id);
  }
}

void StoreService::forget(uint64_t connection) {
  const auto found = by_connection_.find(connection);
  if (found == by_connection_.end()) return;
  const std::set<uint64_t> mine = found->second;
  for (const uint64_t id : mine) drop(id);
  by_connection_.erase(connection);
}

std::optional<TimePoint> StoreService::next_deadline() const {
  if (by_deadline_.empty()) return std::nullopt;
  return by_deadline_.begin()->first;
}

void StoreService::expire(TimePoint now) {
  while (!by_deadline_.empty() && by_deadline_.begin()->first <= now) {
    const uint64_t id = by_deadline_.begin()->second;
    const Waiter& waiter = waiters_.at(id);
    std::string body;
    for (const std::string& key : table_.missing(waiter.keys)) put_string(body, key);
    send_(waiter.connection, make_frame(FrameKind::timeout, waiter.request, body));
    drop(id);
  }
}

void StoreService::drop(uint64_t id) {
  const auto found = waiters_.find(id);
  const Waiter& waiter = found->second;
  for (const std::string& key : waiter.keys) {
    const auto entry = by_key_.find(key);
    if (entry == by_key_.end()) continue;
    entry->second.erase(id);
    if (entry->second.empty()) by_key_.erase(entry);
  }
  by_deadline_.erase({waiter.deadline, id});
  if (const auto mine = by_connection_.find(waiter.connection); mine != by_connection_.end()) {
    mine->second.erase(id);
    if (mine->second.empty()) by_connection_.erase(mine);
  }
  waiters_.erase(found);
}

}  // namespace weft::inline v0::dist::detail
