#include <weft/dist/comm/spanning_group.hpp>

#include <algorithm>
#include <charconv>
#include <utility>

#include <weft/core/base/check.hpp>
#include <weft/core/base/log.hpp>
#include <weft/dist/comm/statistics.hpp>
#include <weft/dist/store/tcp_store.hpp>

namespace weft::inline v0::dist::detail {

namespace {

constexpr double kLostStore = 4.0;       // seconds without a word, of which one comes a second
constexpr double kReasonPatience = 1.0;  // seconds to learn why a link broke
constexpr double kStatistics = 2.0;      // seconds for all hosts to tell how late their ranks came,
constexpr double kLastWords = 0.2;       // and where the group has failed
constexpr double kOdd = 1.0;             // seconds after which a wait is looked into,
constexpr double kLookEvery = 0.5;       // and how often

/// What a group ended with, as it is written into the store.
std::string encode(const CommError& error) {
  Ending kind = Ending::aborted;
  int lost = -1;
  if (const auto* peer = dynamic_cast<const PeerLost*>(&error)) {
    kind = Ending::lost;
    lost = peer->rank();
  } else if (dynamic_cast<const TimeoutError*>(&error) != nullptr) {
    kind = Ending::timeout;
  } else if (dynamic_cast<const DesyncError*>(&error) != nullptr) {
    kind = Ending::desync;
  }
  return fmt::format("{} {}\n{}", static_cast<int>(kind), lost, error.what());
}

struct Ended {
  Ending kind = Ending::aborted;
  int lost = -1;
  std::string reason;
};

Ended decode(const std::string& text) {
  Ended ended;
  int kind = 0;
  const char* end = text.data() + text.size();
  const auto [after, error] = std::from_chars(text.data(), end, kind);
  if (error == std::errc() && kind > 0 && kind <= static_cast<int>(Ending::desync))
    ended.kind = static_cast<Ending>(kind);
  if (after != end) std::from_chars(after + 1, end, ended.lost);
  const size_t line = text.find('\n');
  ended.reason = line == std::string::npos ? text : text.substr(line + 1);
  return ended;
}

}  // namespace

SpanningGroup::SpanningGroup(const std::string& name, int rank, SpanningParts parts,
                             std::unique_ptr<Peers> peers)
    : name_(name),
      rank_(rank),
      parts_(std::move(parts)),
      layout_(parts_.layout),
      node_(node_of(rank)),
      node_part_(make_node_transport(std::move(peers), name, parts_.timeout, members_of(node_))),
      control_(node_part_->control()) {
  watched_ = parts_.watch->add(
      {.on_failure = [this](int world, const std::string& text) { on_failure(world, text); },
       .on_beat = [this] { look_at_others(); }});
}

SpanningGroup::~SpanningGroup() {
  parts_.watch->remove(watched_);
  if (layout_.local_rank(rank_) != 0 || !wants_statistics()) return;
  if (parts_.store->seconds_since_contact() > kLostStore) return;
  // Where the group has failed, the others may never tell.
  tell_statistics(*parts_.store, name_, layout_, rank_, control_.statistics(),
                  ended_ ? kLastWords : kStatistics);
}

void SpanningGroup::on_failure(int world, const std::string& text) {
  const auto place = std::find(layout_.world.begin(), layout_.world.end(), world);
  const bool is_member = place != layout_.world.end();
  const int lost = is_member ? static_cast<int>(place - layout_.world.begin()) : -1;
  control_.end(Ending::lost, lost,
               is_member ? fmt::format("rank {} of group '{}' on host {} is gone: {}", lost, name_,
                                       layout_.hosts[to_size(node_of(lost))], text)
                         : fmt::format("group '{}': {}", name_, text));
}

int SpanningGroup::Owner::node(int peer) const { return rank_ < 0 ? peer : group_.node_of(rank_); }
void SpanningGroup::Owner::on_wait(int peer) { group_.check_wait(node(peer), rank_); }
void SpanningGroup::Owner::on_broken(int peer, const std::string& why) {
  group_.fail_broken(node(peer), rank_, why);
}
void SpanningGroup::Owner::on_desync(Crossing& crossing) {
  if (rank_ >= 0) group_.fail_message(crossing, rank_);
  group_.fail_desync(crossing);
}
void SpanningGroup::Owner::on_left(int peer) { group_.fail_left(node(peer), rank_); }

void SpanningGroup::end_everywhere(const CommError& error) noexcept {
  if (ended_.exchange(true)) return;
  // Where the store has long been silent, an attempt would only hold up the end.
  if (parts_.store->seconds_since_contact() > kLostStore) return close_links();
  try {
    parts_.store->compare_set(ended_key(), "", encode(error), kReasonPatience);
  } catch (const Error& unreachable) {
    // Without the store the others see no more than that this rank is gone. Where it is out of
    // reach, its loss is the reason; and they miss it, or this host, themselves.
    if (parts_.store->seconds_since_contact() < kReasonPatience)
      logging::warn(fmt::format("group '{}': the other hosts are not told why it ended: {}", name_,
                                unreachable.what()));
  }
  close_links();
}

void SpanningGroup::abort_everywhere(const std::string& reason) noexcept {
  control_.end(Ending::aborted, -1, reason);
  try {
    control_.check_alive();
  } catch (const CommError& error) {
    end_everywhere(error);
  }
}

void SpanningGroup::throw_ending() {
  control_.check_alive();
  throw CommError(fmt::format("group '{}': ended", name_));
}

std::string SpanningGroup::name_of_peer(int node, int rank) const {
  return rank < 0 ? layout_.name_of_node(node)
                  : fmt::format("rank {} on host {}", rank, layout_.hosts[to_size(node)]);
}

bool SpanningGroup::adopt_reason(double patience) {
  try {
    const Ended ended = decode(parts_.store->get(ended_key(), patience));
    control_.end(ended.kind, ended.lost, ended.reason);
    return true;
  } catch (const CommError&) {
    return false;  // none is there, or the store is not: the caller says what it knows itself
  }
}

void SpanningGroup::look_at_others() {
  try {
    if (!parts_.store->check({ended_key()}, kLookEvery)) return;
  } catch (const CommError&) {
    return;  // the store is not there to tell
  }
  adopt_reason(kLookEvery);
}

void SpanningGroup::check_everywhere() {
  look_at_others();
  control_.check_alive();
}

std::unique_ptr<CrossLink> SpanningGroup::connect(const std::string& name, int rank, int size,
                                                  TimePoint deadline,
                                                  const std::function<void()>& check) {
  try {
    return parts_.connector->connect(name, rank, size, deadline, check);
  } catch (const TimeoutError& error) {
    check_everywhere();  // which may know better
    throw TimeoutError(
        fmt::format("group '{}': not all hosts have connected in time: {}", name_, error.what()));
  }
}

std::unique_ptr<CrossLink> SpanningGroup::join(const std::string& name, TimePoint deadline) {
  try {
    return connect(name, node_, layout_.nodes(), deadline, [this] { check_everywhere(); });
  } catch (const CommError& error) {
    const Ended ended = decode(encode(error));
    control_.end(ended.kind, ended.lost, ended.reason);
    end_everywhere(error);
    throw;
  }
}

std::string SpanningGroup::message_key(int peer) const {
  return fmt::format("message/{}/{}", name_, peer);
}

void SpanningGroup::note_message_wait(int peer) {
  if (control_.elapsed() < kOdd || seconds_since(last_look_) < kLookEvery) return;
  last_look_ = Clock::now();
  try {
    parts_.store->set(message_key(peer),
                      fmt::format("{} {}\n{}", ++message_waits_, rank_, control_.running_call()),
                      kLookEvery);
    message_is_noted_ = true;
  } catch (const CommError&) {
    return;  // without the store the call times out instead
  }
}

void SpanningGroup::end_message_wait(int peer) {
  if (!std::exchange(message_is_noted_, false)) return;
  try {
    parts_.store->delete_key(message_key(peer), kReasonPatience);
  } catch (const CommError&) {
    return;  // a count that does not go on means nothing
  }
}

void SpanningGroup::look_for_messages() {
  if (control_.elapsed() < kOdd || seconds_since(last_look_) < kLookEvery) return;
  last_look_ = Clock::now();
  for (const int member : members_of(node_)) look_for_message(member);
}

void SpanningGroup::look_for_message(int member) {
  std::string text;
  try {
    const std::string key = message_key(member);
    if (!parts_.store->check({key}, kLookEvery)) return;
    text = parts_.store->get(key, kLookEvery);
  } catch (const CommError&) {
    return;  // without the store the call times out instead
  }
  Seen& seen = seen_messages_[member];
  const Seen before = std::exchange(seen, {control_.sequence(), text});
  if (before.sequence != control_.sequence() || before.text == text) return;
  const Ended message = decode(text);  // count, rank, call
  const int other = message.lost;
  const std::string mine = fmt::format("rank {} called {}", member, control_.running_call());
  const std::string theirs = fmt::format("rank {} called {}", other, message.reason);
  control_.end(Ending::desync, -1,
               fmt::format("group '{}': send and recv do not match: {}; {}", name_,
                           member < other ? mine : theirs, member < other ? theirs : mine));
  throw_ending();
}

void SpanningGroup::check_wait(int node, int rank) {
  control_.check_alive();
  if (rank >= 0)
    note_message_wait(rank);
  else if (layout_.local_rank(rank_) == 0)
    look_for_messages();
  if (!control_.is_late(kOutlast)) return;
  if (adopt_reason(0.05)) throw_ending();
  control_.end(
      Ending::timeout, rank,
      fmt::format("{}: in group '{}', rank {} waited {:.4g} s for {}; WEFT_COLLECTIVE_TIMEOUT "
                  "sets the limit",
                  control_.running_call(), name_, rank_, control_.timeout(),
                  name_of_peer(node, rank)));
  throw_ending();
}

void SpanningGroup::fail_broken(int node, int rank, const std::string& why) {
  const TimePoint deadline = deadline_after(kReasonPatience);
  // A call to a store that is gone takes seconds, whatever its limit: the first one tells.
  const auto store_answers = [this] {
    return parts_.store->seconds_since_contact() < kReasonPatience;
  };
  do {
    control_.check_alive();
    if (adopt_reason(0.05)) throw_ending();
    for (const int member : layout_.members[to_size(node)]) {
      const auto text = store_answers() ? exit_of(layout_.world[to_size(member)]) : std::nullopt;
      if (!text) continue;
      control_.end(Ending::lost, member,
                   fmt::format("{}: rank {} of group '{}' is gone: {}", control_.running_call(),
                               member, name_, *text));
      throw_ending();
    }
  } while (Clock::now() < deadline && store_answers());
  const std::vector<int>& there = members_of(node);
  control_.end(Ending::lost, rank < 0 && there.size() == 1 ? there[0] : rank,
               fmt::format("{}: in group '{}', {} is unreachable: {}", control_.running_call(),
                           name_, name_of_peer(node, rank), why));
  throw_ending();
}

std::optional<std::string> SpanningGroup::exit_of(int world) const {
  try {
    const std::string key = rank_exit_key(world);
    if (parts_.store->check({key}, 0.2)) return parts_.store->get(key, 0.2);
  } catch (const CommError&) {
    return std::nullopt;  // the store is not there to tell
  }
  return std::nullopt;
}

void SpanningGroup::fail_left(int node, int rank) {
  // The link between nodes ties ranks that have the same place in theirs.
  const int lost =
      rank >= 0 ? rank : members_of(node)[static_cast<size_t>(layout_.local_rank(rank_))];
  control_.end(Ending::lost, lost,
               fmt::format("{}: rank {} on host {} left group '{}'", control_.running_call(), lost,
                           layout_.hosts[to_size(node)], name_));
  throw_ending();
}

void SpanningGroup::fail_desync(const Crossing& crossing) {
  struct Kind {
    uint64_t fingerprint;
    std::string call;
    std::vector<int> ranks;
  };
  std::vector<Kind> kinds;
  for (int k = 0; k < layout_.nodes(); ++k) {
    const Header& its = crossing.header(k);
    auto known = std::find_if(kinds.begin(), kinds.end(), [&](const Kind& kind) {
      return kind.fingerprint == its.fingerprint;
    });
    if (known == kinds.end()) known = kinds.insert(known, {its.fingerprint, describe(its), {}});
    known->ranks.insert(known->ranks.end(), members_of(k).begin(), members_of(k).end());
  }
  std::string text;
  for (const Kind& kind : kinds)
    text +=
        fmt::format("{}{} called {}", text.empty() ? "" : "; ", list_ranks(kind.ranks), kind.call);
  control_.end(Ending::desync, -1,
               fmt::format("group '{}': the ranks called different collectives: {}; all must "
                           "make the same calls in the same order",
                           name_, text));
  throw_ending();
}

void SpanningGroup::fail_message(const Crossing& line, int peer) {
  const std::string mine = describe(line.header(line.rank()));
  const std::string theirs = describe(line.header(1 - line.rank()));
  const bool first = rank_ < peer;
  control_.end(
      Ending::desync, -1,
      fmt::format("group '{}': send and recv do not match: rank {} called {}; rank {} called {}",
                  name_, first ? rank_ : peer, first ? mine : theirs, first ? peer : rank_,
                  first ? theirs : mine));
  throw_ending();
}

}  // namespace weft::inline v0::dist::detail
