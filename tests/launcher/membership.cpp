// The state machine of a job's launchers: each rule alone, then thousands of seeded schedules on a
// simulated network.
#include <doctest/doctest.h>

#include <chrono>
#include <functional>
#include <memory>
#include <queue>
#include <random>
#include <string>

#include <weft/launcher/membership.hpp>
#include <weft/tests/support/errors.hpp>

using namespace weft::launcher;
using namespace weft::test;
using weft::dist::detail::TimePoint;
using weft::dist::detail::to_duration;
using Kind = Action::Kind;

namespace {

TimePoint at(double seconds) { return TimePoint() + to_duration(1000 + seconds); }

NodeHello hello(const std::string& id, std::optional<int> rank = {},
                const std::string& nodes = "2") {
  return {.id = id,
          .host = "host-" + id,
          .address = "10.0.0." + id,
          .version = "1",
          .nodes = nodes,
          .node_rank = rank,
          .ranks = 2,
          .hosts_store = id == "0"};
}

MembershipOptions options(int min_nodes, int max_nodes, int restarts = 0) {
  return {.min_nodes = min_nodes, .max_nodes = max_nodes, .max_restarts = restarts, .version = "1"};
}

/// The only action there is.
Action only(const Membership::Actions& actions, Kind kind) {
  REQUIRE(actions.size() == 1);
  REQUIRE(actions[0].kind == kind);
  return actions[0];
}

/// Two nodes with two ranks each, running.
Membership running(MembershipOptions with = options(2, 2)) {
  Membership job(with, at(0));
  const std::string nodes =
      with.min_nodes == with.max_nodes
          ? "2"
          : std::to_string(with.min_nodes) + ":" + std::to_string(with.max_nodes);
  CHECK(job.join(hello("0", {}, nodes), at(0)).empty());
  if (with.max_nodes == 2) {
    only(job.join(hello("1", {}, nodes), at(1)), Kind::start);
  } else {
    CHECK(job.join(hello("1", {}, nodes), at(1)).empty());
    only(job.tick(at(6)), Kind::start);
  }
  return job;
}

void check_refusal(const std::string& name, const std::string& text) {
  const std::string problem = compare_error_text(name, text);
  CHECK_MESSAGE(problem.empty(), problem);
}

}  // namespace

TEST_CASE("membership: the plan has nodes by rank, gaps filled as they joined, uneven ranks") {
  Membership job(options(4, 4), at(0));
  NodeHello b = hello("b", 1, "4"), x = hello("x", {}, "4"), y = hello("y", {}, "4");
  b.ranks = 1;
  y.ranks = 3;
  CHECK(job.join(b, at(0)).empty());
  CHECK(job.join(x, at(0)).empty());
  CHECK(job.join(hello("0", {}, "4"), at(0)).empty());
  const Plan plan = only(job.join(y, at(0)), Kind::start).plan;
  CHECK(plan.ranks == 8);
  const char* ids[] = {"0", "b", "x", "y"};
  const int first[] = {0, 2, 3, 5};
  for (size_t i = 0; i < 4; ++i) {
    CHECK(plan.nodes[i].id == ids[i]);
    CHECK(plan.nodes[i].node_rank == static_cast<int>(i));
    CHECK(plan.nodes[i].first_rank == first[i]);
  }
}

TEST_CASE("membership: who does not fit is refused by name, and the job goes on waiting") {
  Membership job(options(2, 2), at(0));
  CHECK(job.join(hello("0", 0), at(0)).empty());
  const auto refused = [&](const char* name, const NodeHello& other) {
    const Action action = only(job.join(other, at(1)), Kind::refuse);
    CHECK(action.id == other.id);
    const std::string problem = compare_error_text(name, action.cause.text);
    CHECK_MESSAGE(problem.empty(), problem);
  };
  refused("member_rank_twice", hello("9", 0));
  refused("member_rank_range", hello("9", 2));
  refused("member_nodes", hello("9", 1, "3"));
  NodeHello old = hello("9", 1);
  old.version = "0.9";
  refused("member_version", old);
  NodeHello none = hello("9", 1), total = hello("9", 1);
  none.ranks = 0;
  refused("member_no_ranks", none);
  total.total = 4;
  refused("member_total", total);
  const Plan plan = only(job.join(hello("1", 1), at(2)), Kind::start).plan;
  CHECK(plan.nodes.size() == 2);
  refused("member_too_many", hello("9"));
}

TEST_CASE("membership: after ten seconds it is said who is missing, in the end by an error") {
  Membership job(options(3, 3), at(0));
  CHECK(job.join(hello("0", 0, "3"), at(0)).empty());
  CHECK(job.join(hello("2", 2, "3"), at(1)).empty());
  CHECK(job.tick(at(9.9)).empty());
  check_refusal("member_waiting", only(job.tick(at(10)), Kind::notice).cause.text);
  CHECK(job.tick(at(11)).empty());
  REQUIRE(job.deadline().has_value());
  only(job.tick(at(40)), Kind::notice);
  const Action end = only(job.tick(at(120)), Kind::finish);
  CHECK(end.cause.code == 1);
  check_refusal("member_join_timeout", end.cause.text);
  CHECK(job.finished());
}

TEST_CASE("membership: without given ranks, how many are missing") {
  Membership job(options(3, 3), at(0));
  CHECK(job.join(hello("5", {}, "3"), at(0)).empty());
  check_refusal("member_waiting_count", only(job.tick(at(10)), Kind::notice).cause.text);
}

TEST_CASE("membership: at the join timeout enough hosts start, though one has just come") {
  MembershipOptions with = options(1, 3);
  with.join_timeout = 3;  // less than the last call
  Membership job(with, at(0));
  CHECK(job.join(hello("0", {}, "1:3"), at(1)).empty());
  CHECK(job.join(hello("1", {}, "1:3"), at(2)).empty());
  CHECK(job.tick(at(2.9)).empty());
  REQUIRE(job.deadline().has_value());
  CHECK(*job.deadline() == at(3));
  CHECK(only(job.tick(at(3)), Kind::start).plan.nodes.size() == 2);
}

TEST_CASE("membership: a program that cannot be started is not started again") {
  for (const int code : {126, 127}) {
    Membership job = running(options(2, 2, 3));
    only(job.failed("1", 0, {.text = "no program", .code = code}, false, at(5)), Kind::stop);
    CHECK(job.done("0", 0, at(6)).empty());
    CHECK(only(job.done("1", 0, at(6)), Kind::finish).cause.code == code);
  }
}

TEST_CASE("membership: success waits for all") {
  Membership job = running();
  CHECK(job.done("0", 0, at(5)).empty());
  const Action end = only(job.done("1", 0, at(50)), Kind::finish);
  CHECK(end.cause.code == 0);
  CHECK(end.lines.empty());
}

TEST_CASE("membership: output that was lost on a host, in whatever attempt, is no success") {
  Membership job = running(options(2, 2, 1));
  only(job.failed("1", 0, {.text = "rank 1 exited with 7", .code = 7}, false, at(5)), Kind::stop);
  CHECK(job.done("0", 0, at(6), true).empty());
  only(job.done("1", 0, at(6)), Kind::start);
  CHECK(job.done("0", 1, at(7), true).empty());
  const Action end = only(job.done("1", 1, at(8), true), Kind::finish);
  CHECK(end.cause.code == 1);
  CHECK(end.cause.text == "output of the ranks on host-0, host-1 is lost, see there");
  Membership failing = running();
  only(failing.failed("1", 0, {.text = "rank 1 exited with 7", .code = 7}, false, at(5)),
       Kind::stop);
  CHECK(failing.done("0", 0, at(6), true).empty());
  CHECK(only(failing.done("1", 0, at(6)), Kind::finish).cause.code == 7);
}

TEST_CASE("membership: the first failure is the job's, for all") {
  Membership job = running();
  const Action stop =
      only(job.failed("1", 0, {.text = "rank 3 killed", .code = 137}, false, at(5)), Kind::stop);
  CHECK(stop.cause.host == "host-1");
  CHECK(stop.cause.id == "1");
  CHECK(job.failed("0", 0, {.text = "rank 0 exited with 1", .code = 1}, false, at(5)).empty());
  CHECK(job.done("0", 0, at(6)).empty());
  const Action end = only(job.done("1", 0, at(7)), Kind::finish);
  CHECK(end.cause.code == 137);
  CHECK(end.cause.text == "rank 3 killed");
}

TEST_CASE("membership: a consequence waits for its cause") {
  Membership job = running();
  CHECK(job.failed("0", 0, {.text = "rank 0 exited with 1", .code = 1}, true, at(5)).empty());
  CHECK(only(job.failed("1", 0, {.text = "rank 3 killed", .code = 137}, false, at(5.5)), Kind::stop)
            .cause.code == 137);

  Membership lost = running();
  CHECK(lost.failed("0", 0, {.text = "rank 0 exited with 1", .code = 1}, true, at(5)).empty());
  CHECK(lost.tick(at(6)).empty());
  const Membership::Actions actions = lost.gone("1", "no sign of life for 8 s", at(7));
  check_refusal("member_gone", only(actions, Kind::stop).cause.text);
  CHECK(only(lost.done("0", 0, at(8)), Kind::finish).cause.code == 1);

  Membership alone = running();
  CHECK(alone.failed("0", 0, {.text = "rank 0 exited with 5", .code = 5}, true, at(5)).empty());
  CHECK(only(alone.tick(at(8)), Kind::stop).cause.code == 5);
}

TEST_CASE("membership: restarts after failures, until they are used up") {
  Membership job = running(options(2, 2, 1));
  only(job.failed("0", 0, {.text = "rank 1 exited with 7", .code = 7}, false, at(5)), Kind::stop);
  CHECK(job.done("0", 0, at(6)).empty());
  const Plan again = only(job.done("1", 0, at(6)), Kind::start).plan;
  CHECK(again.attempt == 1);
  CHECK(again.ranks == 4);
  CHECK(job.failed("0", 0, {.text = "late", .code = 9}, false, at(6)).empty());
  CHECK(job.done("0", 0, at(6)).empty());
  only(job.failed("1", 1, {.text = "rank 2 exited with 8", .code = 8}, false, at(7)), Kind::stop);
  CHECK(job.done("0", 1, at(8)).empty());
  const Action end = only(job.done("1", 1, at(8)), Kind::finish);
  CHECK(end.cause.code == 8);
  REQUIRE(end.lines.size() == 2);
  CHECK(end.lines[0] == "attempt 0 (2 hosts, 4 ranks): rank 1 exited with 7 after 5.0 s");
  CHECK(end.lines[1] == "attempt 1 (2 hosts, 4 ranks): rank 2 exited with 8 after 2.0 s");
}

TEST_CASE("membership: a signal to one launcher is the end, restarts or not") {
  Membership job = running(options(2, 2, 3));
  only(job.stop("1", {.text = "SIGINT", .code = 130}, at(5)), Kind::stop);
  CHECK(job.done("0", 0, at(6)).empty());
  CHECK(only(job.done("1", 0, at(6)), Kind::finish).cause.code == 130);
  Membership early(options(2, 2), at(0));
  CHECK(early.join(hello("0"), at(0)).empty());
  CHECK(only(early.stop("0", {.text = "SIGINT", .code = 130}, at(5)), Kind::finish).cause.code ==
        130);
}

TEST_CASE("membership: elastic jobs go on with those that are there") {
  Membership job = running(options(1, 3));
  only(job.gone("1", "its connection closed", at(10)), Kind::stop);
  CHECK(job.done("0", 0, at(11)).empty());  // the last call
  CHECK(job.tick(at(15)).empty());
  const Plan smaller = only(job.tick(at(16)), Kind::start).plan;
  CHECK(smaller.attempt == 1);
  CHECK(smaller.nodes.size() == 1);
  // A newcomer: all start again, it does not count as a restart.
  only(job.join(hello("7", {}, "1:3"), at(20)), Kind::stop);
  CHECK(job.done("0", 1, at(21)).empty());
  const Plan larger = only(job.tick(at(26)), Kind::start).plan;
  CHECK(larger.nodes.size() == 2);
  CHECK(larger.attempt == 2);
  CHECK(job.done("0", 2, at(30)).empty());
  const Action end = only(job.done("7", 2, at(31)), Kind::finish);
  CHECK(end.cause.code == 0);
  CHECK(end.lines.size() == 3);
}

TEST_CASE("membership: the total is dealt out among those that are there, each time") {
  MembershipOptions with = options(1, 2);
  with.total_ranks = 5;
  Membership job(with, at(0));
  NodeHello a = hello("0", {}, "1:2"), b = hello("1", {}, "1:2");
  a.total = b.total = 5;
  CHECK(job.join(a, at(0)).empty());
  const Plan both = only(job.join(b, at(1)), Kind::start).plan;
  CHECK(both.ranks == 5);
  CHECK(both.nodes[0].ranks == 3);
  CHECK(both.nodes[1].first_rank == 3);
  CHECK(both.nodes[1].ranks == 2);
  only(job.gone("1", "its connection closed", at(10)), Kind::stop);
  CHECK(job.done("0", 0, at(11)).empty());
  const Plan alone = only(job.tick(at(16)), Kind::start).plan;
  CHECK(alone.nodes.size() == 1);
  CHECK(alone.ranks == 5);
}

TEST_CASE("membership: a node leaves an elastic job, which goes on where enough are left") {
  const Cause cause{.text = "SIGTERM to the launcher", .code = 143};
  for (const bool dies : {false, true}) {
    Membership job = running(options(1, 3));
    check_refusal("member_leaves", only(job.leave("1", cause, at(10)), Kind::stop).cause.text);
    CHECK(job.leave("1", cause, at(10)).empty());
    CHECK(job.done("0", 0, at(11)).empty());
    CHECK((dies ? job.gone("1", "closed", at(12)) : job.done("1", 0, at(12))).empty());
    CHECK(only(job.tick(at(17)), Kind::start).plan.nodes.size() == 1);
    CHECK(job.gone("1", "closed", at(18)).empty());
    // The last one may not leave: there it is the end.
    only(job.leave("0", cause, at(20)), Kind::stop);
    CHECK(only(job.done("0", 1, at(21)), Kind::finish).cause.code == 143);
  }
  Membership fixed = running();
  only(fixed.leave("1", cause, at(10)), Kind::stop);
  CHECK(fixed.done("0", 0, at(11)).empty());
  CHECK(only(fixed.done("1", 0, at(11)), Kind::finish).cause.code == 143);
}

TEST_CASE("membership: an elastic job with too few left waits, then names them") {
  Membership job = running(options(2, 3));
  only(job.gone("1", "its connection closed", at(10)), Kind::stop);
  CHECK(job.done("0", 0, at(11)).empty());
  CHECK(job.tick(at(20)).empty());
  only(job.tick(at(21)), Kind::notice);
  CHECK(only(job.tick(at(131)), Kind::finish).cause.code == 1);
}

namespace {

/// A job of launchers on a simulated network: messages take their time, links are cut, launchers
/// crash, ranks fail, newcomers come. All of it follows from the seed.
class Simulation {
 public:
  explicit Simulation(uint32_t seed) : random_(seed) {
    const int max_nodes = 1 + pick(4);
    options_ = options(chance(0.5) ? max_nodes : 1 + pick(max_nodes), max_nodes, pick(3));
    job_ = std::make_unique<Membership>(options_, at(0));
    for (int i = 0; i < max_nodes + pick(2); ++i) after(real(0, 20), [this] { arrive(); });
    for (int i = pick(4); i > 0; --i) after(real(5, 200), [this] { disturb(); });
  }

  void run() {
    while (!events_.empty() || job_->deadline()) {
      REQUIRE_MESSAGE(++steps_ < 20000, "the job does not come to an end");
      const auto due = job_->deadline();
      if (due && (events_.empty() || *due <= events_.top().time)) {
        now_ = std::max(now_, *due);
        act(job_->tick(now_));
        continue;
      }
      const Event event = events_.top();
      events_.pop();
      now_ = event.time;
      event.action();
    }
    check_end();
  }

 private:
  struct Launcher {
    std::string id;
    bool alive = true, cut = false, joined = false, refused = false;
    int attempt = -1;    // whose ranks run there
    bool ranks = false;  // some run
    bool stopping = false;
    std::optional<int> exit_code;
    TimePoint up = {}, down = {};  // arrival of the last message, each way: links keep the order
  };
  struct Event {
    TimePoint time;
    uint64_t number;
    std::function<void()> action;
    bool operator<(const Event& other) const {
      return time != other.time ? time > other.time : number > other.number;
    }
  };

  int pick(int below) { return static_cast<int>(random_() % static_cast<uint32_t>(below)); }
  double real(double low, double high) {
    return std::uniform_real_distribution<double>(low, high)(random_);
  }
  bool chance(double p) { return real(0, 1) < p; }
  void at_time(TimePoint time, std::function<void()> action) {
    events_.push({time, ++number_, std::move(action)});
  }
  void after(double seconds, std::function<void()> action) {
    at_time(now_ + to_duration(seconds), std::move(action));
  }
  double delay() { return chance(0.05) ? real(0, 3) : real(0, 0.05); }

  /// To the one that decides; nothing comes through a cut link or from the dead.
  void send_up(Launcher& from, std::function<void()> deliver) {
    from.up = std::max(from.up, now_ + to_duration(delay()));
    at_time(from.up, [&from, deliver = std::move(deliver)] {
      if (from.alive && !from.cut) deliver();
    });
  }
  void send_down(Launcher& to, std::function<void()> deliver) {
    to.down = std::max(to.down, now_ + to_duration(delay()));
    at_time(to.down, [&to, deliver = std::move(deliver)] {
      if (to.alive && !to.cut && !to.exit_code) deliver();
    });
  }

  void arrive() {
    launchers_.push_back(std::make_unique<Launcher>());
    Launcher& one = *launchers_.back();
    one.id = std::to_string(launchers_.size() - 1);
    send_up(one, [this, &one] {
      if (job_->finished()) {
        one.exit_code = 1;
        return;
      }
      one.joined = true;
      const bool fixed = options_.min_nodes == options_.max_nodes;
      const std::string nodes =
          fixed ? std::to_string(options_.max_nodes)
                : std::to_string(options_.min_nodes) + ":" + std::to_string(options_.max_nodes);
      act(job_->join(hello(one.id, {}, nodes), now_));
    });
  }

  Launcher* any() {
    if (launchers_.empty()) return nullptr;
    return launchers_[static_cast<size_t>(pick(static_cast<int>(launchers_.size())))].get();
  }

  void disturb() {
    Launcher* one = any();
    if (one == nullptr || !one->alive || one->exit_code) return;
    switch (pick(5)) {
      case 0: return crash(*one);
      case 1: return cut(*one);
      case 2: return arrive();
      case 3:
        return send_up(
            *one, [this, one] { act(job_->stop(one->id, {.text = "SIGINT", .code = 130}, now_)); });
      default: return fail(*one, false);
    }
  }

  void lose(Launcher& one, double after_seconds) {
    after(after_seconds, [this, &one] {
      if (one.joined) act(job_->gone(one.id, "lost", now_));
    });
    for (const auto& other : launchers_)
      if (other.get() != &one && other->ranks && chance(0.5))
        after(real(0, 2), [this, peer = other.get()] { fail(*peer, true); });
  }

  void crash(Launcher& one) {
    one.alive = one.ranks = false;
    lose(one, real(0, 1));
  }

  void cut(Launcher& one) {
    one.cut = true;
    lose(one, real(8, 9));
    after(real(8, 10), [&one] {  // it ends its ranks by itself
      one.ranks = false;
      if (!one.exit_code) one.exit_code = 1;
    });
  }

  void fail(Launcher& one, bool follows) {
    if (!one.ranks || one.stopping || !one.alive || one.exit_code) return;
    one.stopping = true;
    const int attempt = one.attempt, code = 1 + pick(200);
    if (!follows) failures_.insert({attempt, code});
    send_up(one, [this, &one, attempt, code, follows] {
      act(job_->failed(one.id, attempt, {.text = "failed", .code = code}, follows, now_));
    });
    end_ranks(one, attempt);
  }

  void end_ranks(Launcher& one, int attempt) {
    after(real(0, 10), [this, &one, attempt] {
      if (!one.alive || one.attempt != attempt || !one.ranks) return;
      one.ranks = false;
      send_up(one, [this, &one, attempt] { act(job_->done(one.id, attempt, now_)); });
    });
  }

  void act(const Membership::Actions& actions) {
    for (const Action& action : actions) {
      if (action.kind == Kind::start) check_plan(action.plan);
      if (action.kind == Kind::finish) REQUIRE_MESSAGE(++finishes_ == 1, "finished twice");
      for (const auto& one : launchers_) {
        if (!one->joined || (action.kind == Kind::refuse && one->id != action.id)) continue;
        send_down(*one, [this, launcher = one.get(), action] { obey(*launcher, action); });
      }
    }
  }

  void obey(Launcher& one, const Action& action) {
    switch (action.kind) {
      case Kind::refuse:
        one.exit_code = 2;
        one.refused = true;
        return;
      case Kind::notice: return;
      case Kind::finish:
        CHECK_FALSE(one.ranks);
        one.exit_code = action.cause.code;
        codes_.insert(action.cause.code);
        return;
      case Kind::stop:
        if (one.ranks && !one.stopping) {
          one.stopping = true;
          end_ranks(one, one.attempt);
        }
        return;
      case Kind::start:
        for (const PlannedNode& node : action.plan.nodes)
          if (node.id == one.id) begin(one, action.plan.attempt);
    }
  }

  void begin(Launcher& one, int attempt) {
    CHECK_FALSE_MESSAGE(one.ranks, "ranks of two attempts on one host");
    // Ranks of an earlier attempt may run only where nobody can know of them any more.
    for (const auto& other : launchers_)
      if (other->ranks && !other->cut) CHECK(other->attempt == attempt);
    one.ranks = true;
    one.stopping = false;
    one.attempt = attempt;
    after(real(20, 120), [this, &one, attempt] {  // it comes to its end
      if (one.ranks && one.attempt == attempt && !one.stopping) {
        one.stopping = true;
        end_ranks(one, attempt);
      }
    });
  }

  void check_plan(const Plan& plan) {
    CHECK(plan.attempt == last_attempt_ + 1);
    last_attempt_ = plan.attempt;
    const int nodes = static_cast<int>(plan.nodes.size());
    CHECK(nodes >= options_.min_nodes);
    CHECK(nodes <= options_.max_nodes);
    int next = 0;
    std::set<std::string> ids;
    for (int i = 0; i < nodes; ++i) {
      const PlannedNode& node = plan.nodes[static_cast<size_t>(i)];
      CHECK(node.node_rank == i);
      CHECK(node.first_rank == next);
      CHECK(ids.insert(node.id).second);
      next += node.ranks;
    }
    CHECK(plan.ranks == next);
  }

  void check_end() {
    CHECK(job_->finished());
    CHECK(codes_.size() <= 1);  // all launchers that hear of the end exit alike
    for (const auto& one : launchers_) {
      CHECK_FALSE(one->ranks);
      if (one->alive && one->joined) CHECK_MESSAGE(one->exit_code.has_value(), one->id);
    }
    if (options_.min_nodes == options_.max_nodes) CHECK(last_attempt_ <= options_.max_restarts);
  }

  std::mt19937 random_;
  MembershipOptions options_;
  std::unique_ptr<Membership> job_;
  std::vector<std::unique_ptr<Launcher>> launchers_;
  std::priority_queue<Event> events_;
  TimePoint now_ = at(0);
  uint64_t number_ = 0;
  int steps_ = 0, finishes_ = 0, last_attempt_ = -1;
  std::set<int> codes_;
  std::set<std::pair<int, int>> failures_;
};

}  // namespace

TEST_CASE("membership: five thousand schedules of crashes, cuts, delays, failures and newcomers") {
  for (uint32_t seed = 1; seed <= 5000; ++seed) {
    CAPTURE(seed);
    Simulation(seed).run();
  }
}
