#include <weft/dist/store/service.hpp>

#include <algorithm>

#include <weft/core/base/check.hpp>
#include <weft/dist/store/bytes.hpp>
#include <weft/dist/store/store.hpp>

namespace weft::inline v0::dist::detail {

using weft::detail::fail;

namespace {

constexpr size_t kMaxSessions = 64 * 1024;
constexpr size_t kMaxReplies = 1024;  // of one client, not yet acknowledged
constexpr size_t kMaxWaits = 1024;    // of one connection
constexpr Clock::duration kSessionKept = std::chrono::minutes(10);  // after its connection closed

double seconds(uint64_t microseconds) { return static_cast<double>(microseconds) * 1e-6; }

}  // namespace

StoreService::StoreService(Hooks hooks, Clock::duration grace)
    : hooks_(std::move(hooks)), members_(grace) {}

void StoreService::connected(uint64_t connection, const ClientInfo& client, TimePoint now) {
  if (sessions_.size() >= kMaxSessions && !sessions_.contains(client.id))
    fail<CommError>("store: {} clients, more than one store serves", sessions_.size());
  Session& session = sessions_[client.id];
  if (session.connection == 0) departed_.erase({session.left, client.id});
  session.info = client;
  session.connection = connection;
  clients_[connection] = client.id;
  members_.contact(client.id, now);
}

void StoreService::disconnected(uint64_t connection, TimePoint now) {
  if (const auto waits = by_connection_.find(connection); waits != by_connection_.end()) {
    const std::set<uint64_t> mine = waits->second;
    for (const uint64_t id : mine) drop(id);
  }
  const auto client = clients_.find(connection);
  if (client == clients_.end()) return;
  Session& session = sessions_.at(client->second);
  if (session.connection == connection) {  // else it has come back on another one already
    session.connection = 0;
    session.left = now;
    departed_.emplace(now, client->second);
    members_.broken(client->second, now);
  }
  clients_.erase(client);
}

void StoreService::handle(uint64_t connection, const Request& request, TimePoint now) {
  const auto client = clients_.find(connection);
  if (client == clients_.end()) return;  // its epoch is over
  Session& session = sessions_.at(client->second);
  members_.contact(client->second, now);
  if (changes_store(request.kind)) {
    hooks_.send(connection, change_once(session, request, now));
  } else if (request.kind == FrameKind::barrier) {
    arrive(connection, session, request, now);
  } else if (request.kind == FrameKind::check) {
    const bool all = table_.missing(request.strings).empty();
    hooks_.send(connection, make_frame(FrameKind::value, request.id, all ? "1" : "0"));
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
// A server that does not know a client which says that it has been here before (another process at
// the same address, or the client was away for longer than replies are kept) refuses its handshake.
std::optional<std::string> StoreService::answered_before(Session& session, const Request& request) {
  if (request.id < session.acknowledged)
    return make_frame(FrameKind::refused, request.id, "store: a request that was answered before");
  if (const auto done = session.replies.find(request.id); done != session.replies.end())
    return done->second;
  session.acknowledged = std::max(session.acknowledged, request.acknowledged);
  session.replies.erase(session.replies.begin(), session.replies.lower_bound(session.acknowledged));
  if (session.replies.size() >= kMaxReplies)
    return make_frame(FrameKind::refused, request.id, "store: too many requests at once");
  if (!session.given_up.empty())
    return make_frame(FrameKind::refused, request.id,
                      "store: this process was given up: " + session.given_up);
  return std::nullopt;
}

std::string StoreService::change_once(Session& session, const Request& request, TimePoint now) {
  if (auto reply = answered_before(session, request)) return *std::move(reply);
  std::string reply;
  try {
    reply = make_frame(FrameKind::value, request.id, change(session, request, now));
  } catch (const ArgumentError& error) {
    reply = make_frame(FrameKind::argument, request.id, error.what());
  } catch (const CommError& error) {
    reply = make_frame(FrameKind::refused, request.id, error.what());
  }
  return session.replies.emplace(request.id, std::move(reply)).first->second;
}

std::string StoreService::change(Session& session, const Request& request, TimePoint now) {
  const std::vector<std::string>& in = request.strings;
  std::string result;
  switch (request.kind) {
    case FrameKind::set:
      table_.set(in[0], in[1]);
      if (hooks_.on_set) hooks_.on_set(in[0], in[1], session.info.peer);
      break;
    case FrameKind::add: put<int64_t>(result, table_.add(in[0], request.amount)); break;
    case FrameKind::compare_set: result = table_.compare_set(in[0], in[1], in[2]); break;
    case FrameKind::erase: return table_.erase(in[0]) ? "1" : "0";
    case FrameKind::erase_prefix: put<int64_t>(result, table_.erase_prefix(in[0])); return result;
    case FrameKind::join: join(session, request, now); return result;
    default: leave(session); return result;
  }
  wake(in[0]);
  return result;
}

void StoreService::publish(std::string_view key, std::string_view value) {
  table_.set(key, value);
  wake(std::string(key));
}

void StoreService::join(Session& session, const Request& request, TimePoint now) {
  const std::string& name = request.strings[0];
  const auto limit = to_duration(seconds(request.timeout_us));
  const auto replaced = members_.join(name, session.info.id, session.info.peer, limit, now);
  if (replaced) give_up(*replaced);
  table_.erase(gone_key(name));
  table_.erase(left_key(name));
  table_.set_own(member_key(name), request.strings[1]);
  wake(member_key(name));
}

void StoreService::leave(Session& session) {
  const std::string name = members_.leave(session.info.id);
  WEFT_CHECK(ArgumentError, !name.empty(), "store: leave: this process has not joined");
  const std::string* detail = table_.find(member_key(name));
  table_.set_own(left_key(name), detail == nullptr ? "" : std::string(*detail));
  table_.erase(member_key(name));
  wake(left_key(name));
}

void StoreService::give_up(const StoreMembers::Gone& gone) {
  if (const auto session = sessions_.find(gone.client); session != sessions_.end())
    session->second.given_up = gone.reason;
  barriers_.withdraw(gone.client);
  table_.erase(member_key(gone.name));
  table_.set_own(gone_key(gone.name), gone.reason);
  wake(gone_key(gone.name));
  if (hooks_.on_gone) hooks_.on_gone(gone.name, gone.reason);
}

void StoreService::arrive(uint64_t connection, Session& session, const Request& request,
                          TimePoint now) {
  if (auto reply = answered_before(session, request))
    return hooks_.send(connection, *std::move(reply));
  const ClientInfo& info = session.info;
  StoreBarriers::Arrival arrival{
      .connection = connection,
      .label = info.rank >= 0 ? fmt::format("rank {}", info.rank) : info.peer,
      .start = now,
      .deadline = now + to_duration(seconds(request.timeout_us))};
  const StoreBarriers::Caller caller{info.id, request.id};
  try {
    const auto released =
        barriers_.arrive(request.strings[0], request.amount, caller, std::move(arrival));
    for (const auto& [who, from] : released)
      answer(who, from.connection, make_frame(FrameKind::value, who.request, ""));
  } catch (const ArgumentError& error) {
    answer(caller, connection, make_frame(FrameKind::argument, request.id, error.what()));
  } catch (const CommError& error) {
    answer(caller, connection, make_frame(FrameKind::refused, request.id, error.what()));
  }
}

/// Keeps the answer for a repeated request, and sends it where the connection still stands.
void StoreService::answer(const StoreBarriers::Caller& caller, uint64_t connection,
                          std::string frame) {
  if (const auto session = sessions_.find(caller.client); session != sessions_.end())
    session->second.replies[caller.request] = frame;
  if (clients_.contains(connection)) hooks_.send(connection, std::move(frame));
}

void StoreService::start_wait(uint64_t connection, const Request& request, TimePoint now) {
  if (request.strings.empty()) {  // nothing to wait for
    hooks_.send(connection, make_frame(FrameKind::value, request.id, ""));
    return;
  }
  Waiter waiter{.connection = connection,
                .request = request.id,
                .kind = request.kind,
                .keys = request.strings,
                .start = now,
                .deadline = now + to_duration(seconds(request.timeout_us))};
  if (const auto result = result_of(waiter)) {
    hooks_.send(connection, make_frame(FrameKind::value, request.id, *result));
    return;
  }
  auto& mine = by_connection_[connection];
  if (mine.size() >= kMaxWaits) {
    hooks_.send(connection,
                make_frame(FrameKind::refused, request.id, "store: too many waits at once"));
    return;
  }
  const uint64_t id = next_waiter_++;
  mine.insert(id);
  by_deadline_.emplace(waiter.deadline, id);
  for (const std::string& key : waiter.keys) by_key_[key].insert(id);
  waiters_.emplace(id, std::move(waiter));
}

/// What the wait ends with, or nothing where it goes on.
std::optional<std::string> StoreService::result_of(const Waiter& waiter) const {
  if (waiter.kind == FrameKind::wait_any) {
    for (size_t i = 0; i < waiter.keys.size(); ++i) {
      if (table_.find(waiter.keys[i]) == nullptr) continue;
      std::string index;
      put<uint32_t>(index, static_cast<uint32_t>(i));
      return index;
    }
    return std::nullopt;
  }
  if (!table_.missing(waiter.keys).empty()) return std::nullopt;
  return waiter.kind == FrameKind::get ? *table_.find(waiter.keys[0]) : std::string();
}

void StoreService::wake(const std::string& key) {
  const auto found = by_key_.find(key);
  if (found == by_key_.end() || table_.find(key) == nullptr) return;
  const std::vector<uint64_t> candidates(found->second.begin(), found->second.end());
  for (const uint64_t id : candidates) {
    const Waiter& waiter = waiters_.at(id);
    const auto result = result_of(waiter);
    if (!result) continue;
    hooks_.send(waiter.connection, make_frame(FrameKind::value, waiter.request, *result));
    drop(id);
  }
}

std::vector<uint64_t> StoreService::end_epochs_below(int epoch) {
  std::vector<uint64_t> connections;
  for (auto entry = sessions_.begin(); entry != sessions_.end();) {
    const auto& [client, session] = *entry;
    if (session.info.epoch < 0 || session.info.epoch >= epoch) {
      ++entry;
      continue;
    }
    const std::string name = members_.leave(client);
    if (!name.empty()) table_.erase(member_key(name));
    barriers_.withdraw(client);
    departed_.erase({session.left, client});
    entry = sessions_.erase(entry);
  }
  std::erase_if(clients_, [&](const auto& item) {
    if (sessions_.contains(item.second)) return false;
    connections.push_back(item.first);
    return true;
  });
  return connections;
}

std::optional<TimePoint> StoreService::next_deadline() const {
  std::optional<TimePoint> next;
  const auto take = [&](std::optional<TimePoint> time) {
    if (time && (!next || *time < *next)) next = time;
  };
  if (!by_deadline_.empty()) take(by_deadline_.begin()->first);
  if (!departed_.empty()) take(departed_.begin()->first + kSessionKept);
  take(barriers_.next_deadline());
  take(members_.next_deadline());
  return next;
}

void StoreService::expire(TimePoint now) {
  for (const StoreMembers::Gone& gone : members_.expire(now)) give_up(gone);
  for (auto& late : barriers_.expire(now))
    answer(late.caller, late.arrival.connection,
           make_frame(FrameKind::late, late.caller.request, late.text));
  expire_waits(now);
  forget_clients(now);
}

void StoreService::expire_waits(TimePoint now) {
  while (!by_deadline_.empty() && by_deadline_.begin()->first <= now) {
    const uint64_t id = by_deadline_.begin()->second;
    const Waiter& waiter = waiters_.at(id);
    std::string body;
    for (const std::string& key : table_.missing(waiter.keys)) put_string(body, key);
    hooks_.send(waiter.connection, make_frame(FrameKind::timeout, waiter.request, body));
    drop(id);
  }
}

void StoreService::forget_clients(TimePoint now) {
  while (!departed_.empty() && departed_.begin()->first + kSessionKept <= now) {
    const std::string client = departed_.begin()->second;
    departed_.erase(departed_.begin());
    barriers_.withdraw(client);
    sessions_.erase(client);
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
