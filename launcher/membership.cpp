#include <weft/launcher/membership.hpp>

#include <algorithm>
#include <chrono>
#include <utility>

#include <weft/core/base/check.hpp>
#include <weft/launcher/ending.hpp>
#include <weft/launcher/error.hpp>
#include <weft/launcher/options.hpp>

namespace weft::inline v0::launcher {

using dist::detail::to_duration;

namespace {

constexpr size_t kNamed = 16;  // nodes that a text lists

/// The first of `items`, joined, and how many there are beyond.
std::string listed(const std::vector<std::string>& items) {
  std::string text;
  for (size_t i = 0; i < std::min(items.size(), kNamed); ++i)
    text += (i == 0 ? "" : ", ") + items[i];
  if (items.size() > kNamed) text += fmt::format(" and {} more", items.size() - kNamed);
  return text;
}

std::string total_text(int total) {
  return total == 0 ? "no --num_processes" : fmt::format("--num_processes {}", total);
}

}  // namespace

Membership::Membership(MembershipOptions options, TimePoint now)
    : options_(std::move(options)),
      gather_start_(now),
      last_arrival_(now),
      next_notice_(now + to_duration(options_.notice)) {}

std::string Membership::name(const NodeHello& hello) const {
  return hello.address.empty() ? hello.host : fmt::format("{} ({})", hello.host, hello.address);
}

/// Why this launcher may not join; nothing where it may.
std::optional<std::string> Membership::objection(const NodeHello& hello) const {
  const std::string nodes = elastic() ? fmt::format("{}:{}", options_.min_nodes, options_.max_nodes)
                                      : std::to_string(options_.max_nodes);
  if (hello.version != options_.version)
    return fmt::format("weft launcher {} on {}, but {} on node 0; install the same version",
                       hello.version, name(hello), options_.version);
  if (hello.nodes != nodes)
    return fmt::format("--nnodes {} on {}, but --nnodes {} on node 0; give the same on every host",
                       hello.nodes, name(hello), nodes);
  if (hello.total != options_.total_ranks)
    return fmt::format("{} on {}, but {} on node 0; give the same on every host",
                       total_text(hello.total), name(hello), total_text(options_.total_ranks));
  if (hello.ranks < 1)
    return fmt::format("no ranks on {}; give at least one for each host", name(hello));
  if (hello.node_rank && *hello.node_rank >= options_.max_nodes)
    return fmt::format("--node_rank {} on {}, but --nnodes {}; hosts are numbered from 0",
                       *hello.node_rank, name(hello), nodes);
  for (const auto& [id, other] : nodes_)
    if (hello.node_rank && other.hello.node_rank == hello.node_rank)
      return fmt::format(
          "node rank {} is given twice: {} joined with it before {}; give each host its own "
          "--node_rank, or none",
          *hello.node_rank, name(other.hello), name(hello));
  if (state_ == State::finished) return "the job is over";
  if (count() >= options_.max_nodes)
    return fmt::format("the job has its {} already; {} comes on top of --nnodes {}",
                       counted(options_.max_nodes, "host"), name(hello), nodes);
  return std::nullopt;
}

/// The nodes by their ranks: those that were given, the others filling the gaps as they joined.
std::map<int, const Membership::Node*> Membership::places() const {
  std::map<int, const Node*> places;
  std::vector<const Node*> free;
  for (const auto& [id, node] : nodes_) {
    if (node.hello.node_rank)
      places[*node.hello.node_rank] = &node;
    else
      free.push_back(&node);
  }
  std::sort(free.begin(), free.end(), [](const Node* a, const Node* b) {
    if (a->hello.hosts_store != b->hello.hosts_store) return a->hello.hosts_store;
    return a->order < b->order;
  });
  int next = 0;
  for (const Node* node : free) {
    while (places.contains(next)) ++next;
    places[next] = node;
  }
  return places;
}

/// "joined: node 0 a (10.0.0.1), …; missing: node 1"
std::string Membership::waiting_text() const {
  std::vector<std::string> joined, missing;
  const auto all = places();
  for (const auto& [rank, node] : all)
    joined.push_back(node->hello.node_rank || node->hello.hosts_store
                         ? fmt::format("node {} {}", rank, name(node->hello))
                         : name(node->hello));
  bool numbered = true;
  for (const auto& [rank, node] : all)
    numbered = numbered && (node->hello.node_rank || node->hello.hosts_store);
  for (int rank = 0; numbered && rank < options_.min_nodes; ++rank)
    if (!all.contains(rank)) missing.push_back(fmt::format("node {}", rank));
  const int lacking = std::max(0, options_.min_nodes - count());
  return fmt::format("joined: {}; missing: {}", joined.empty() ? "nobody" : listed(joined),
                     numbered && static_cast<int>(missing.size()) == lacking
                         ? listed(missing)
                         : counted(lacking, "host"));
}

Membership::Actions Membership::join(const NodeHello& hello, TimePoint now) {
  Actions out;
  if (nodes_.contains(hello.id)) return out;
  if (const auto text = objection(hello)) {
    out.push_back({.kind = Action::Kind::refuse, .id = hello.id, .cause = {.text = *text}});
    return out;
  }
  nodes_[hello.id] = {hello, joined_++};
  last_arrival_ = now;
  if (state_ == State::gathering) {
    start_if_complete(out, now);
  } else if (state_ == State::running) {
    changed_ = true;
    begin_stop({.text = fmt::format("{} joined; starting again with it", name(hello)), .code = 0},
               out);
  }
  return out;
}

Membership::Actions Membership::failed(const std::string& id, int attempt, Cause cause,
                                       bool follows, TimePoint now) {
  Actions out;
  if (attempt != attempt_ || state_ != State::running || !busy_.contains(id)) return out;
  cause.id = id;
  cause.host = nodes_.at(id).hello.host;
  if (!follows) {
    begin_stop(std::move(cause), out);
  } else if (!held_) {
    held_ = std::move(cause);
    held_until_ = now + to_duration(options_.hold);
  }
  return out;
}

Membership::Actions Membership::done(const std::string& id, int attempt, TimePoint now,
                                     bool output_lost) {
  Actions out;
  if (attempt != attempt_ || busy_.erase(id) == 0) return out;
  const std::string& host = planned_.at(id).host;
  if (output_lost && std::count(output_lost_.begin(), output_lost_.end(), host) == 0)
    output_lost_.push_back(host);
  settle_if_over(out, now);
  return out;
}

Membership::Actions Membership::gone(const std::string& id, const std::string& reason,
                                     TimePoint now) {
  Actions out;
  if (state_ == State::finished) return out;
  const auto found = nodes_.extract(id);  // none where it had said that it leaves
  if (busy_.erase(id) == 0) return out;
  changed_ = true;
  if (state_ == State::running && found)
    begin_stop({.text = fmt::format("node {} {} is gone: {}", planned_.at(id).node_rank,
                                    name(found.mapped().hello), reason),
                .code = kExitLost},
               out);
  settle_if_over(out, now);
  return out;
}

Membership::Actions Membership::leave(const std::string& id, Cause cause, TimePoint now) {
  const auto found = nodes_.find(id);
  if (found == nodes_.end() || state_ == State::finished) return {};
  if (!elastic() || count() <= options_.min_nodes) return stop(id, std::move(cause), now);
  Actions out;
  const std::string who = name(found->second.hello);
  nodes_.erase(found);
  if (!busy_.contains(id)) return out;
  changed_ = true;
  if (state_ == State::running)
    begin_stop(
        {.text = fmt::format("node {} {} leaves: {}", planned_.at(id).node_rank, who, cause.text),
         .code = kExitLost},
        out);
  return out;
}

Membership::Actions Membership::stop(const std::string& id, Cause cause, TimePoint now) {
  Actions out;
  const auto found = nodes_.find(id);
  if (found == nodes_.end() || state_ == State::finished) return out;
  cause.id = id;
  cause.host = found->second.hello.host;
  return abort(std::move(cause), now);
}

Membership::Actions Membership::abort(Cause cause, TimePoint now) {
  Actions out;
  if (state_ == State::finished) return out;
  final_ = true;
  if (state_ == State::gathering)
    finish(std::move(cause), out, now);
  else if (state_ == State::running)
    begin_stop(std::move(cause), out);
  else if (cause_->code == 0)
    cause_->code = cause.code;  // it ended for a newcomer, which is no failure
  return out;
}

Membership::Actions Membership::tick(TimePoint now) {
  Actions out;
  if (state_ == State::running && held_ && now >= held_until_) {
    Cause cause = *std::exchange(held_, std::nullopt);
    begin_stop(std::move(cause), out);
  }
  if (state_ != State::gathering) return out;
  start_if_complete(out, now);
  if (state_ != State::gathering) return out;
  if (now >= gather_start_ + to_duration(options_.join_timeout)) {
    finish({.text = fmt::format("{} of {} joined within {:g} s; {}", count(),
                                counted(options_.min_nodes, "host"), options_.join_timeout,
                                waiting_text()),
            .code = kExitLost},
           out, now);
  } else if (now >= next_notice_) {
    next_notice_ = now + 3 * to_duration(options_.notice);
    out.push_back({.kind = Action::Kind::notice, .cause = {.text = waiting_text()}});
  }
  return out;
}

std::optional<Membership::TimePoint> Membership::deadline() const {
  if (state_ == State::running && held_) return held_until_;
  if (state_ != State::gathering) return std::nullopt;
  TimePoint next = std::min(next_notice_, gather_start_ + to_duration(options_.join_timeout));
  if (elastic() && count() >= options_.min_nodes)
    next = std::min(next, last_arrival_ + to_duration(options_.last_call));
  return next;
}

void Membership::start_if_complete(Actions& out, TimePoint now) {
  const TimePoint last_call = std::min(last_arrival_ + to_duration(options_.last_call),
                                       gather_start_ + to_duration(options_.join_timeout));
  const bool enough = count() >= options_.min_nodes && now >= last_call;
  if (count() < options_.max_nodes && !(elastic() && enough)) return;
  Action start{.kind = Action::Kind::start};
  start.plan.attempt = ++attempt_;
  planned_.clear();
  for (const auto& [rank, node] : places()) {
    const int index = static_cast<int>(start.plan.nodes.size());
    const PlannedNode planned{.id = node->hello.id,
                              .host = node->hello.host,
                              .node_rank = index,
                              .first_rank = start.plan.ranks,
                              .ranks = options_.total_ranks != 0
                                           ? share_of(options_.total_ranks, count(), index)
                                           : node->hello.ranks};
    start.plan.ranks += planned.ranks;
    start.plan.nodes.push_back(planned);
    planned_[planned.id] = planned;
    busy_.insert(planned.id);
  }
  attempts_.push_back({count(), start.plan.ranks, now, {}});
  state_ = State::running;
  cause_.reset();
  held_.reset();
  changed_ = false;
  out.push_back(std::move(start));
}

void Membership::begin_stop(Cause cause, Actions& out) {
  state_ = State::stopping;
  held_.reset();
  cause_ = cause;
  out.push_back({.kind = Action::Kind::stop, .cause = std::move(cause)});
}

void Membership::settle_if_over(Actions& out, TimePoint now) {
  if (!busy_.empty() || (state_ != State::running && state_ != State::stopping)) return;
  if (held_) begin_stop(*std::exchange(held_, std::nullopt), out);
  settle(out, now);
}

/// Nobody runs any more: the job is over, or begins again.
void Membership::settle(Actions& out, TimePoint now) {
  using Seconds = std::chrono::duration<double>;
  Attempt& last = attempts_.back();
  last.end = fmt::format("{} after {:.1f} s", cause_ ? cause_->text : "ended",
                         Seconds(now - last.start).count());
  if (!cause_ && !output_lost_.empty())
    return finish(
        {.text = fmt::format("output of the ranks on {} is lost, see there", listed(output_lost_)),
         .code = kExitLost},
        out, now);
  if (!cause_) return finish({}, out, now);
  if (final_) return finish(*cause_, out, now);
  if (changed_) {
    if (elastic()) return gather(out, now);
    return finish({.text = cause_->text, .code = cause_->code != 0 ? cause_->code : kExitLost}, out,
                  now);
  }
  if (restarts_ >= options_.max_restarts || never_starts(cause_->code))
    return finish(*cause_, out, now);
  ++restarts_;
  gather(out, now);
}

void Membership::gather(Actions& out, TimePoint now) {
  state_ = State::gathering;
  gather_start_ = last_arrival_ = now;
  next_notice_ = now + to_duration(options_.notice);
  start_if_complete(out, now);
}

void Membership::finish(Cause cause, Actions& out, TimePoint now) {
  Action end{.kind = Action::Kind::finish, .cause = std::move(cause)};
  if (attempt_ > 0 || (attempt_ == 0 && state_ == State::gathering)) {
    using Seconds = std::chrono::duration<double>;
    for (size_t i = 0; i < attempts_.size(); ++i) {
      const Attempt& attempt = attempts_[i];
      const std::string how =
          !attempt.end.empty()
              ? attempt.end
              : fmt::format("ended after {:.1f} s", Seconds(now - attempt.start).count());
      end.lines.push_back(fmt::format("attempt {} ({}, {}): {}", i, counted(attempt.nodes, "host"),
                                      counted(attempt.ranks, "rank"), how));
    }
  }
  state_ = State::finished;
  out.push_back(std::move(end));
}

}  // namespace weft::inline v0::launcher
