#include <weft/launcher/coordinator.hpp>

#include <pthread.h>
#include <signal.h>

#include <utility>

#include <weft/core/base/check.hpp>
#include <weft/dist/store/place.hpp>
#include <weft/launcher/error.hpp>

namespace weft::inline v0::launcher {

namespace {

using dist::detail::Clock;
using dist::detail::deadline_after;
using dist::detail::TimePoint;

constexpr size_t kReports = 5;       // that are kept
constexpr double kFarewellTime = 5;  // seconds for the others to hear of the end

}  // namespace

std::string line_of(const Cause& cause, const std::string& own) {
  const bool elsewhere = !cause.host.empty() && cause.id != own;
  std::string text = cause.text;
  // What is said of a rank stands alone, so that it reads the same on every host.
  if (!text.starts_with("rank ") && !text.starts_with("launcher: ")) text = "launcher: " + text;
  return elsewhere ? fmt::format("{} on {}", text, cause.host) : text;
}

Coordinator::Coordinator(CoordinatorOptions options)
    : options_(std::move(options)), membership_(options_.membership, Clock::now()) {
  listen();
  // Signals belong to the main thread.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Coordinator::~Coordinator() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Coordinator::listen() {
  dist::StoreServerOptions server{
      .address = options_.address,
      .token = options_.token,
      .report =
          [this](std::string_view text) {
            const std::lock_guard lock(mutex_);
            if (reports_.size() < kReports)
              reports_.push_back(fmt::format("launcher: {}", text));
            else
              ++dropped_reports_;
          },
      .on_gone =
          [this](std::string_view member, std::string_view reason) {
            const std::string prefix = member_name("");
            if (member.starts_with(prefix))
              post(
                  {.id = std::string(member.substr(prefix.size())), .reason = std::string(reason)});
          },
      .on_set =
          [this](std::string_view key, std::string_view value, std::string_view peer) {
            const std::string_view id = sender_of(key);
            if (id.empty()) return;
            if (auto fields = unpack(value); fields && !fields->empty())
              post({std::string(id), std::string(peer), *std::move(fields), {}});
          }};
  std::string refused;
  for (const int port : options_.ports) {
    server.port = port;
    try {
      server_ = std::make_unique<dist::StoreServer>(server);
      return;
    } catch (const IoError& error) {
      refused = error.what();
    }
  }
  throw LaunchError(kExitUsage, options_.ports.size() == 1
                                    ? refused
                                    : fmt::format("none of {} ports is free; give one with "
                                                  "--rdzv_endpoint HOST:PORT: {}",
                                                  options_.ports.size(), refused));
}

void Coordinator::post(Event event) {
  {
    const std::lock_guard lock(mutex_);
    events_.push_back(std::move(event));
  }
  changed_.notify_all();
}

void Coordinator::abort(const Cause& cause) {
  post({.fields = {"abort", cause.text, std::to_string(cause.code)}});
}

void Coordinator::signal(int number) { post({.fields = {"signal", std::to_string(number)}}); }

std::vector<std::string> Coordinator::reports() {
  const std::lock_guard lock(mutex_);
  std::vector<std::string> lines = reports_;
  if (dropped_reports_ > 0)
    lines.push_back(fmt::format("launcher: store: and {} more like it", dropped_reports_));
  return lines;
}

void Coordinator::run() {
  std::optional<TimePoint> give_up;
  for (;;) {
    std::deque<Event> events;
    {
      std::unique_lock lock(mutex_);
      const auto due = give_up ? give_up : membership_.deadline();
      const auto ready = [this, &give_up] { return !events_.empty() || (closing_ && !give_up); };
      if (due)
        changed_.wait_until(lock, *due, ready);
      else
        changed_.wait(lock, ready);
      events.swap(events_);
      if (closing_ && !give_up) give_up = deadline_after(kFarewellTime);
    }
    for (const Event& event : events) take(event);
    carry_out(membership_.tick(Clock::now()));
    if (give_up && (sent_.empty() || Clock::now() >= *give_up)) return;
  }
}

void Coordinator::take(const Event& event) {
  const TimePoint now = Clock::now();
  if (event.fields.empty()) {
    sent_.erase(event.id);
    return carry_out(membership_.gone(event.id, event.reason, now));
  }
  carry_out(on_message(event, now));
}

/// A message that makes no sense is of another version, or of a process that has the token and no
/// business here; it is passed over.
Membership::Actions Coordinator::on_message(const Event& event, TimePoint now) {
  const Fields& fields = event.fields;
  if (event.id.empty() && fields[0] == "signal") {
    send_all(fields);
    return {};
  }
  if (event.id.empty())
    return membership_.abort({.text = fields.at(1), .code = to_int(fields.at(2)).value_or(1)}, now);
  if (auto hello = parse_hello(fields)) {
    hello->id = event.id;
    hello->address = event.peer.substr(0, event.peer.rfind(':'));
    sent_.emplace(event.id, 0);
    return membership_.join(*hello, now);
  }
  if (!sent_.contains(event.id)) return {};
  if (fields[0] == "farewell") {
    sent_.erase(event.id);
    return {};
  }
  const auto number = [&](size_t i) {
    return i < fields.size() ? to_int(fields[i]) : std::nullopt;
  };
  if (fields[0] == "failed" && fields.size() == 5 && number(1) && number(3))
    return membership_.failed(event.id, *number(1), {.text = fields[2], .code = *number(3)},
                              fields[4] == "1", now);
  if (fields[0] == "done" && fields.size() == 3 && number(1))
    return membership_.done(event.id, *number(1), now, fields[2] == "1");
  if (fields[0] == "leave" && fields.size() == 3 && number(2))
    return membership_.leave(event.id, {.text = fields[1], .code = *number(2)}, now);
  if (fields[0] == "stop" && fields.size() == 3 && number(2))
    return membership_.stop(event.id, {.text = fields[1], .code = *number(2)}, now);
  if (fields[0] == "ended" && fields.size() == 4 && number(1) && number(2))
    server_->publish(dist::attempt_prefix(*number(1)) + "/" + dist::rank_exit_key(*number(2)),
                     fields[3]);
  return {};
}

void Coordinator::carry_out(const Membership::Actions& actions) {
  for (const Action& action : actions) {
    if (options_.on_action) options_.on_action(action);
    switch (action.kind) {
      case Action::Kind::refuse:
        send(action.id, {"refuse", action.cause.text});
        sent_.erase(action.id);
        break;
      case Action::Kind::notice: send_all({"notice", action.cause.text}); break;
      case Action::Kind::start: begin_attempt(action.plan); break;
      case Action::Kind::stop: {
        Fields fields = to_fields(action.cause);
        fields.insert(fields.begin(), "stop");
        server_->publish(dist::attempt_prefix(attempt_) + "/launch/failure", action.cause.text);
        send_all(fields);
        break;
      }
      case Action::Kind::finish: {
        Fields fields = {"finish", action.cause.text, std::to_string(action.cause.code)};
        fields.insert(fields.end(), action.lines.begin(), action.lines.end());
        send_all(fields);
        break;
      }
    }
  }
}

/// The keys of the attempt before are gone before anybody of the new one can look for them.
void Coordinator::begin_attempt(const Plan& plan) {
  attempt_ = plan.attempt;
  if (attempt_ > 0) {
    server_->set_epoch(attempt_);
    server_->delete_prefix(dist::attempt_prefix(attempt_ - 1) + "/");
    server_->delete_prefix(dist::gone_key(""));
    server_->delete_prefix(dist::left_key(""));
  }
  for (const PlannedNode& node : plan.nodes)
    send(node.id, to_fields(Assignment{.attempt = plan.attempt,
                                       .ranks = plan.ranks,
                                       .nodes = static_cast<int>(plan.nodes.size()),
                                       .node = node,
                                       .job_id = options_.job_id}));
}

void Coordinator::send(const std::string& id, const Fields& fields) {
  const auto to = sent_.find(id);
  if (to != sent_.end()) server_->publish(key_to(id, to->second++), pack(fields));
}

void Coordinator::send_all(const Fields& fields) {
  for (auto& [id, count] : sent_) server_->publish(key_to(id, count++), pack(fields));
}

}  // namespace weft::inline v0::launcher
