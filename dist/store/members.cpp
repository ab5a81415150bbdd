#include <weft/dist/store/members.hpp>

#include <algorithm>

#include <weft/core/base/check.hpp>

namespace weft::inline v0::dist::detail {

TimePoint StoreMembers::end_of(const Member& member) const {
  const TimePoint silent = member.contact + member.limit;
  return member.broken ? std::min(silent, *member.broken + grace_) : silent;
}

void StoreMembers::move_due(const std::string& name, Member& member, TimePoint due) {
  due_.erase({member.due, name});
  member.due = due;
  due_.emplace(due, name);
}

std::optional<StoreMembers::Gone> StoreMembers::join(const std::string& name,
                                                     const std::string& client,
                                                     const std::string& peer, Clock::duration limit,
                                                     TimePoint now) {
  if (const auto own = names_.find(client); own != names_.end()) {
    WEFT_CHECK(ArgumentError, own->second == name,
               "store: join as '{}': this process has joined as '{}'", name, own->second);
    contact(client, now);
    return std::nullopt;
  }
  std::optional<Gone> replaced;
  if (const auto other = members_.find(name); other != members_.end()) {
    WEFT_CHECK(ArgumentError, other->second.broken.has_value(),
               "store: join as '{}' from {}: {} has joined under that name; give each process its "
               "own rank",
               name, peer, other->second.peer);
    replaced = give_up(other, now);
  }
  Member member{.client = client,
                .peer = peer,
                .limit = limit,
                .contact = now,
                .broken = std::nullopt,
                .due = now + limit};
  due_.emplace(member.due, name);
  names_.emplace(client, name);
  members_.emplace(name, std::move(member));
  return replaced;
}

std::string StoreMembers::leave(const std::string& client) {
  const auto own = names_.find(client);
  if (own == names_.end()) return {};
  const std::string name = own->second;
  const auto member = members_.find(name);
  due_.erase({member->second.due, name});
  members_.erase(member);
  names_.erase(own);
  return name;
}

// Called for every request: leaves due_ as it is, whose entry may only come too early.
void StoreMembers::contact(const std::string& client, TimePoint now) {
  const auto own = names_.find(client);
  if (own == names_.end()) return;
  Member& member = members_.at(own->second);
  member.contact = now;
  member.broken.reset();
}

void StoreMembers::broken(const std::string& client, TimePoint now) {
  const auto own = names_.find(client);
  if (own == names_.end()) return;
  Member& member = members_.at(own->second);
  if (!member.broken) member.broken = now;
  move_due(own->second, member, std::min(member.due, end_of(member)));
}

std::optional<TimePoint> StoreMembers::next_deadline() const {
  if (due_.empty()) return std::nullopt;
  return due_.begin()->first;
}

StoreMembers::Gone StoreMembers::give_up(std::map<std::string, Member>::iterator member,
                                         TimePoint now) {
  const auto& [name, state] = *member;
  const double silence = std::chrono::duration<double>(now - state.contact).count();
  Gone gone{
      .name = name,
      .client = state.client,
      .reason = state.broken
                    ? fmt::format("the connection from {} closed and did not come back", state.peer)
                    : fmt::format("no sign of life from {} for {:.1f} s", state.peer, silence)};
  due_.erase({state.due, name});
  names_.erase(state.client);
  members_.erase(member);
  return gone;
}

std::vector<StoreMembers::Gone> StoreMembers::expire(TimePoint now) {
  std::vector<Gone> gone;
  while (!due_.empty() && due_.begin()->first <= now) {
    const auto member = members_.find(due_.begin()->second);
    const TimePoint end = end_of(member->second);
    if (end <= now)
      gone.push_back(give_up(member, now));
    else
      move_due(member->first, member->second, end);
  }
  return gone;
}

}  // namespace weft::inline v0::dist::detail
