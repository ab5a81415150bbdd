// Thousands of seeded schedules of the store's server and clients on a simulated network. A
// schedule that breaks a promise names its seed: WEFT_SIMULATION_SEED runs that one alone.
#include <doctest/doctest.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <weft/dist/store/bytes.hpp>
#include <weft/dist/store/store.hpp>
#include <weft/tests/dist/store_simulated.hpp>

using namespace weft::test;
using namespace weft::dist;
using namespace weft::dist::detail;
using namespace std::chrono_literals;

namespace {

/// What may happen in a schedule.
struct Weather {
  std::string name;
  SimulatedNetwork::Options network;
  bool partitions = false;
  bool crash_client = false, crash_server = false;
  /// No member has a reason to be given up: nothing lasts longer than the server's grace.
  bool gentle = true;
};

constexpr Clock::duration kGrace = 3s;
constexpr double kLimit = 10;
constexpr int kRounds = 8;

/// A rank: each round it counts, meets the others, and looks whether all have counted.
class Rank {
 public:
  struct Shared {
    std::map<int, int> begun;         // round that each rank has begun
    std::vector<std::string> broken;  // promises
    std::map<int, double> gone_seen;  // seconds at which somebody saw a member's gone key
  };

  Rank(SimulatedNetwork& network, Shared& shared, int server, int number, int count)
      : network_(network),
        shared_(shared),
        number_(number),
        count_(count),
        client_(network, network.add_host(), server, number) {}

  void start() {
    network_.after(
        network_.between(0s, 500ms),
        [this] {
          client_.join(name(number_), [this] {
            watch();
            round();
          });
        },
        client_.host());
  }

  SimulatedClient& client() { return client_; }
  /// Whether nothing more is to come from this rank.
  bool over() const {
    return done_ || stopped_ || client_.lost() || network_.crashed(client_.host());
  }
  bool done() const { return done_; }
  int acknowledged() const { return acknowledged_; }
  int asked() const { return asked_; }

  static std::string name(int number) { return "rank " + std::to_string(number); }

 private:
  void round() {
    if (round_ == kRounds) {
      client_.leave([this] { done_ = true; });
      return;
    }
    ++round_;
    shared_.begun[number_] = round_;
    count("total", [this] { count("n/" + std::to_string(number_), [this] { meet(); }); });
  }

  void count(const std::string& key, std::function<void()> then) {
    ++asked_;
    client_.call({.kind = FrameKind::add, .amount = 1, .strings = {key}}, 300,
                 [this, then = std::move(then)](std::optional<SimulatedClient::Reply> reply) {
                   if (!reply || reply->kind != FrameKind::value) return stop();
                   ++acknowledged_;
                   then();
                 });
  }

  void meet() {
    client_.call({.kind = FrameKind::barrier, .amount = count_, .strings = {"all"}}, 300,
                 [this](std::optional<SimulatedClient::Reply> reply) {
                   if (!reply || reply->kind != FrameKind::value) return stop();
                   for (int other = 0; other < count_; ++other)
                     if (shared_.begun[other] < round_)
                       shared_.broken.push_back("a barrier let somebody go early");
                   look();
                 });
  }

  void look() {
    client_.call({.kind = FrameKind::get, .strings = {"total"}}, 300,
                 [this](std::optional<SimulatedClient::Reply> reply) {
                   if (!reply || reply->kind != FrameKind::value) return stop();
                   if (std::atoi(reply->body.c_str()) < round_ * count_)
                     shared_.broken.push_back("a count is missing behind the barrier");
                   round();
                 });
  }

  /// As a launcher does: the first one gone ends the job.
  void watch() {
    std::vector<std::string> keys;
    for (int other = 0; other < count_; ++other)
      if (other != number_) keys.push_back(gone_key(name(other)));
    client_.call({.kind = FrameKind::wait_any, .strings = keys}, 3,
                 [this](std::optional<SimulatedClient::Reply> reply) {
                   if (over()) return;
                   if (!reply || reply->kind != FrameKind::value) return watch();
                   const auto index = static_cast<int>(Reader(reply->body).take<uint32_t>());
                   const int member = index < number_ ? index : index + 1;
                   shared_.gone_seen.emplace(
                       member,
                       std::chrono::duration<double>(network_.now().time_since_epoch()).count());
                   stop();
                 });
  }

  void stop() { stopped_ = true; }

  SimulatedNetwork& network_;
  Shared& shared_;
  int number_, count_;
  SimulatedClient client_;
  int round_ = 0, asked_ = 0, acknowledged_ = 0;
  bool done_ = false, stopped_ = false;
};

#ifdef WEFT_SANITIZED
constexpr int kShare = 20;  // of the schedules, one in so many: everything is many times slower
#else
constexpr int kShare = 1;
#endif

struct Outcome {
  int schedules = 0;
  std::vector<std::string> broken;
  int finished = 0;
  int gone = 0;
  int reconnects = 0;
  uint64_t events = 0;
};

/// The value of a counter after the schedule.
int64_t counter(SimulatedServer& server, const std::string& key) {
  const std::string* value = server.service().find(key);
  return value == nullptr ? 0 : std::atoll(value->c_str());
}

void make_trouble(SimulatedNetwork& network, const Weather& weather, int hosts) {
  if (!weather.partitions) return;
  for (int i = 0; i < 2; ++i) {
    const int victim = 1 + static_cast<int>(network.random()() % static_cast<unsigned>(hosts));
    const auto longest = weather.gentle ? 1000ms : 20'000ms;
    network.after(network.between(0s, 2s), [&network, victim, longest] {
      network.partition(0, victim, network.between(100ms, longest));
    });
  }
}

Outcome run_schedule(const Weather& weather, uint64_t seed) {
  SimulatedNetwork network(seed, weather.network);
  const int server_host = network.add_host();
  SimulatedServer server(network, server_host, kGrace);
  const int count = 2 + static_cast<int>(network.random()() % 4);
  Rank::Shared shared;
  std::vector<std::unique_ptr<Rank>> ranks;
  for (int i = 0; i < count; ++i)
    ranks.push_back(std::make_unique<Rank>(network, shared, server_host, i, count));
  for (const auto& rank : ranks) rank->start();
  make_trouble(network, weather, count);
  std::optional<int> victim;
  double crashed_at = 0;
  if (weather.crash_client || weather.crash_server)
    network.after(network.between(0s, 1500ms), [&] {
      const int host =
          weather.crash_server
              ? server_host
              : 1 + static_cast<int>(network.random()() % static_cast<unsigned>(count));
      if (!weather.crash_server && ranks[static_cast<size_t>(host - 1)]->done()) return;
      victim = host - 1;
      crashed_at = std::chrono::duration<double>(network.now().time_since_epoch()).count();
      network.crash(host);
    });

  Outcome outcome;
  const auto all_over = [&] {
    return std::all_of(ranks.begin(), ranks.end(), [](const auto& rank) { return rank->over(); });
  };
  if (!network.run(400s, all_over)) outcome.broken.push_back("a rank never came to an end");
  const bool crashed = victim && !weather.crash_server;

  int64_t asked = 0, acknowledged = 0;
  for (const auto& rank : ranks) {
    outcome.finished += rank->done() ? 1 : 0;
    outcome.reconnects += std::max(0, rank->client().connections() - 1);
    asked += rank->asked();
    acknowledged += rank->acknowledged();
  }
  outcome.gone = static_cast<int>(shared.gone_seen.size());
  if (!weather.crash_server) {
    int64_t sum = counter(server, "total");
    for (int i = 0; i < count; ++i) sum += counter(server, "n/" + std::to_string(i));
    if (sum < acknowledged || sum > asked)
      outcome.broken.push_back("counted " + std::to_string(sum) + " of " + std::to_string(asked) +
                               " asked, " + std::to_string(acknowledged) + " acknowledged");
  }
  if (weather.gentle && !victim && outcome.finished != count)
    outcome.broken.push_back("somebody did not finish: " + [&] {
      std::string text;
      for (const auto& rank : ranks) text += rank->client().why() + ";";
      return text;
    }());
  if (weather.gentle && crashed)
    for (const auto& [member, time] : shared.gone_seen) {
      if (member != *victim)
        outcome.broken.push_back("rank " + std::to_string(member) + " was given up, rank " +
                                 std::to_string(*victim) + " crashed");
      else if (time - crashed_at > kLimit + 1)
        outcome.broken.push_back("a crash was seen after " + std::to_string(time - crashed_at));
    }
  if (weather.gentle && crashed && shared.begun[*victim] > 0 && outcome.finished + 1 < count &&
      shared.gone_seen.empty())
    outcome.broken.push_back("nobody saw the crash");
  if (weather.crash_server && victim)
    for (const auto& rank : ranks)
      if (!rank->done() && !rank->client().lost())
        outcome.broken.push_back("a rank did not notice that the store is lost");
  outcome.broken.insert(outcome.broken.end(), shared.broken.begin(), shared.broken.end());
  outcome.events = network.events();
  return outcome;
}

/// Runs the schedules and prints the seeds of those that broke a promise.
Outcome run_schedules(const Weather& weather, uint64_t first, int count) {
  Outcome all;
  int shown = 0;
  count /= kShare;
  if (const char* only = std::getenv("WEFT_SIMULATION_SEED")) {
    std::from_chars(only, only + std::string_view(only).size(), first);
    count = 1;
  }
  for (int i = 0; i < count; ++i) {
    const uint64_t seed = first + static_cast<uint64_t>(i);
    const Outcome outcome = run_schedule(weather, seed);
    ++all.schedules;
    all.finished += outcome.finished;
    all.gone += outcome.gone;
    all.reconnects += outcome.reconnects;
    all.events += outcome.events;
    if (outcome.broken.empty()) continue;
    all.broken.push_back(outcome.broken[0]);
    if (++shown <= 5)
      FAIL_CHECK(weather.name << ": WEFT_SIMULATION_SEED=" << seed << ": " << outcome.broken[0]);
  }
  CHECK(all.broken.empty());
  return all;
}

SimulatedNetwork::Options network(double breaks, double tampers, double silent_crash,
                                  double silent_break = 0) {
  return {.break_chance = breaks,
          .tamper_chance = tampers,
          .silent_crash = silent_crash,
          .silent_break = silent_break};
}

}  // namespace

TEST_CASE("store simulation: delays and reconnections cost nobody anything") {
  const Outcome calm = run_schedules({"calm", network(0, 0, 0)}, 1'000, 200);
  CHECK(calm.gone == 0);
  CHECK(calm.reconnects == 0);
  const Outcome breaks = run_schedules({"breaks", network(0.03, 0, 0)}, 2'000, 1000);
  CHECK(breaks.reconnects > breaks.schedules);
  CHECK(breaks.gone == 0);
}

TEST_CASE("store simulation: messages changed, doubled, left out, swapped") {
  const Outcome outcome = run_schedules(
      {.name = "tampering", .network = network(0, 0.02, 0), .gentle = false}, 3'000, 1000);
  CHECK(outcome.reconnects > outcome.schedules / 2);
  CHECK(outcome.finished > 2 * outcome.schedules);
}

TEST_CASE("store simulation: short partitions") {
  const Outcome outcome = run_schedules(
      {.name = "partitions", .network = network(0.01, 0, 0), .partitions = true}, 4'000, 500);
  CHECK(outcome.gone == 0);
}

TEST_CASE("store simulation: a crashed member is named, and no other") {
  const Outcome outcome = run_schedules(
      {.name = "crash", .network = network(0.01, 0, 0.3), .crash_client = true}, 5'000, 1000);
  CHECK(outcome.gone > outcome.schedules / 2);
}

TEST_CASE("store simulation: all learn that the server is lost") {
  const Outcome outcome = run_schedules(
      {.name = "server", .network = network(0, 0, 0.3), .crash_server = true}, 6'000, 500);
  CHECK(outcome.gone == 0);
}

TEST_CASE("store simulation: everything at once: nothing counts twice, all come to an end") {
  const Outcome outcome = run_schedules({.name = "storm",
                                         .network = network(0.03, 0.02, 0.3, 0.3),
                                         .partitions = true,
                                         .crash_client = true,
                                         .gentle = false},
                                        7'000, 1000);
  CHECK(outcome.reconnects > outcome.schedules / 2);
}

TEST_CASE("store simulation: a schedule follows from its seed") {
  const Weather storm{.name = "storm",
                      .network = network(0.03, 0.02, 0.3, 0.3),
                      .partitions = true,
                      .crash_client = true,
                      .gentle = false};
  const Outcome a = run_schedule(storm, 7), b = run_schedule(storm, 7);
  CHECK(a.events == b.events);
  CHECK(a.reconnects == b.reconnects);
  CHECK(a.events != run_schedule(storm, 8).events);
}
