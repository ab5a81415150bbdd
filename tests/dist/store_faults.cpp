// The store behind a network that delays, splits, stalls, resets and damages (F07, F08 of
// docs/faults.md): each call has the right result or a clean error in bounded time.
#include <doctest/doctest.h>

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <weft/core/base/error.hpp>
#include <weft/tests/dist/store_support.hpp>
#include <weft/tests/support/fault_proxy.hpp>

using namespace weft;
using namespace weft::dist;
using namespace weft::dist::detail;
using namespace weft::test;
using namespace std::chrono_literals;

namespace {

constexpr double kCallTimeout = 0.5;  // seconds of one call in a fault schedule
// Seconds after which a call must have ended: its timeout, the client's allowance for a late
// answer, a search for a lost server, and what a loaded machine takes.
constexpr double kBound = kCallTimeout + 1.0 + 2.0 + 10.0;

/// What came of one client's calls.
struct Played {
  int right = 0, errors = 0;
  std::string wrong;  // the first result that was neither right nor a clean error
  double longest = 0;
};

/// Calls whose right results are known, as no other client uses these keys. A call that failed may
/// or may not have had its effect, and nothing in between.
class Script {
 public:
  Script(Store& store, uint64_t seed)
      : store_(store), random_(seed), own_("own/" + std::to_string(seed)) {}

  /// Up to `calls` of them; a connection that fell silent fails them all, so two errors are enough.
  Played play(int calls) {
    for (int i = 0; i < calls && played_.wrong.empty() && played_.errors < 2; ++i) {
      const auto start = std::chrono::steady_clock::now();
      try {
        call(i);
      } catch (const CommError&) {  // TimeoutError is one
        ++played_.errors;
      } catch (const std::exception& error) {
        wrong(std::string("threw ") + error.what());
      }
      played_.longest =
          std::max(played_.longest,
                   std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    return played_;
  }

 private:
  void call(int i) {
    const std::string key = own_ + "/" + std::to_string(i);
    const std::string value(random_() % 200, static_cast<char>('a' + i % 26));
    switch (i % 3) {
      case 0:
        store_.set(key, value, kCallTimeout);
        expect(store_.get(key, kCallTimeout) == value, "get");
        break;
      case 1: {
        ++most_;  // should the answer be lost
        const int64_t count = store_.add(own_ + "/n", 1, kCallTimeout);
        ++least_;
        expect(count >= least_ && count <= most_, "add gave " + std::to_string(count));
        least_ = most_ = count;
        break;
      }
      default:
        expect(store_.compare_set(key, "", value.empty() ? "x" : value, kCallTimeout) ==
                   (value.empty() ? "x" : value),
               "compare_set");
    }
  }

  void expect(bool right, const std::string& what) { right ? void(++played_.right) : wrong(what); }
  void wrong(const std::string& what) {
    if (played_.wrong.empty()) played_.wrong = what;
  }

  Store& store_;
  std::mt19937_64 random_;
  std::string own_;
  int64_t least_ = 0, most_ = 0;
  Played played_;
};

/// A client behind a proxy with this plan, from connecting to its last call.
Played play_behind(const StoreServer& server, uint64_t seed,
                   std::function<FlowPlan(int, Direction)> plan, int calls = 30) {
  FaultProxy proxy({.server_port = server.port(), .seed = seed, .plan = std::move(plan)});
  Played played;
  std::unique_ptr<TcpStore> store;
  const double connecting = seconds_of([&] {
    try {
      store = std::make_unique<TcpStore>(
          TcpStoreOptions{.port = proxy.port(), .token = kToken, .timeout = 2});
    } catch (const CommError&) {
      ++played.errors;
    }
  });
  if (store) played = Script(*store, seed).play(calls);
  played.longest = std::max(played.longest, connecting);
  return played;
}

/// Plays the schedules of seeds 1 to `count`, several at once (they mostly wait), and checks each;
/// a client without a proxy is served all the while.
template <class MakePlan>
void play_schedules(uint64_t count, MakePlan make_plan, int& right, int& errors) {
  StoreServer server({.token = kToken});
  TcpStore bystander({.port = server.port(), .token = kToken, .timeout = 30});
  std::vector<Played> all(count);
  std::atomic<uint64_t> next = 0;
  std::vector<std::thread> players;
  for (int i = 0; i < 16; ++i)
    players.emplace_back([&] {
      for (uint64_t at = next++; at < count; at = next++)
        all[at] = play_behind(server, at + 1, make_plan(at + 1));
    });
  for (int64_t i = 1; i <= 200; ++i) CHECK(bystander.add("bystander", 1) == i);
  for (std::thread& player : players) player.join();
  CHECK(bystander.get("bystander") == "200");
  for (uint64_t at = 0; at < count; ++at) {
    INFO("seed " << at + 1);
    CHECK(all[at].wrong == "");
    CHECK(all[at].longest < kBound);
    right += all[at].right;
    errors += all[at].errors;
  }
}

/// All clients meet through the proxy and read each other's addresses.
int rendezvous(FaultProxy& proxy, int clients) {
  std::atomic<int> through = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < clients; ++i)
    threads.emplace_back([&, i] {
      TcpStore store({.port = proxy.port(), .token = kToken, .timeout = 60, .rank = i});
      store.set("address/" + std::to_string(i), std::to_string(i * i));
      if (store.add("arrived", 1) == clients) store.set("all", "");
      store.wait({"all"});
      const int next = (i + 1) % clients;
      if (store.get("address/" + std::to_string(next)) == std::to_string(next * next)) ++through;
    });
  for (std::thread& thread : threads) thread.join();
  return through;
}

}  // namespace

TEST_CASE("the fault proxy does what its plan says") {
  int port = 0;
  const Fd listener = listen_on("127.0.0.1", port);
  // What a server behind the proxy receives of "0123456789" until the stream ends.
  const auto received = [&](const FlowPlan& plan) {
    FaultProxy proxy({.server_port = port, .plan = [&](int, Direction direction) {
                        return direction == Direction::to_server ? plan : FlowPlan{};
                      }});
    std::string error, bytes;
    const Fd client = connect_to("127.0.0.1", proxy.port(), deadline_after(10), error);
    send_all(client.get(), "01234", deadline_after(10));
    send_all(client.get(), "56789", deadline_after(10));
    ::shutdown(client.get(), SHUT_WR);
    wait_ready(listener.get(), POLLIN, deadline_after(10));
    const Fd server(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    IoResult result = IoResult::done;
    while (result == IoResult::done)
      result = receive_some(server.get(), bytes, deadline_after(plan.stall_at == 3 ? 0.2 : 10));
    if (result == IoResult::timed_out) bytes += " and silence";
    return bytes;
  };
  CHECK(received({}) == "0123456789");
  CHECK(received({.delay = 5ms, .jitter = 2ms, .segment = 1}) == "0123456789");
  CHECK(received({.drop_at = 4, .count = 3}) == "0123789");
  CHECK(received({.replay_at = 4, .count = 3}) == "0123123456789");
  CHECK(received({.reset_at = 6}) == "012345");
  CHECK(received({.close_at = 6}) == "012345");
  CHECK(received({.stall_at = 3}) == "012 and silence");
  const std::string corrupt = received({.corrupt_at = 7});
  REQUIRE(corrupt.size() == 10);
  CHECK(corrupt[7] != '7');
  CHECK(corrupt.substr(0, 7) + corrupt.substr(8) == "012345689");
}

TEST_CASE("F07 store: a delay of 50 ms with jitter, and single bytes, change no result") {
  StoreServer server({.token = kToken});
  SUBCASE("delay") {
    FaultProxy proxy({.server_port = server.port(), .plan = [](int, Direction) {
                        return FlowPlan{.delay = 50ms, .jitter = 30ms};
                      }});
    CHECK(rendezvous(proxy, 8) == 8);
  }
  SUBCASE("single bytes") {
    FaultProxy proxy({.server_port = server.port(), .plan = [](int, Direction) {
                        return FlowPlan{.jitter = 1ms, .segment = 1};
                      }});
    CHECK(rendezvous(proxy, 8) == 8);
  }
}

TEST_CASE("F07 store: connects in any order meet") {
  for (const uint64_t seed : {1, 2, 3}) {
    StoreServer server({.token = kToken});
    FaultProxy proxy({.server_port = server.port(), .seed = seed, .connects_held = 12});
    CHECK(rendezvous(proxy, 12) == 12);
    CHECK(proxy.connections() == 12);
  }
}

TEST_CASE("F07 store: one direction stalls; calls end at their deadline and work again later") {
  StoreServer server({.token = kToken});
  TcpStore direct({.port = server.port(), .token = kToken, .timeout = 10});
  for (const Direction direction : {Direction::to_server, Direction::to_client}) {
    FaultProxy proxy({.server_port = server.port()});
    TcpStore store({.port = proxy.port(), .token = kToken, .timeout = 10});
    const int64_t before = store.add("n", 1);
    proxy.stall(direction);
    const double seconds =
        seconds_of([&] { CHECK_THROWS_AS(store.add("n", 1, kCallTimeout), TimeoutError); });
    CHECK(seconds >= kCallTimeout);
    CHECK(seconds < kBound);
    proxy.release_stalls();
    // What was held up has its effect once; its late answer is nobody's.
    CHECK(store.add("n", 1, 10) == before + 2);
    CHECK(direct.get("n") == std::to_string(before + 2));
  }
}

TEST_CASE("F07 store: a server that falls silent at any byte is a timeout, not a hang") {
  int right = 0, errors = 0;
  play_schedules(
      32,
      [](uint64_t seed) {
        return [seed](int n, Direction direction) {
          std::mt19937_64 random(seed);
          const auto side = static_cast<Direction>(random() % 2);
          const bool hit = n == 0 && direction == side;
          return FlowPlan{.stall_at = hit ? random() % 400 : FlowPlan::kNever};
        };
      },
      right, errors);
  MESSAGE(right << " calls right, " << errors << " clean errors");
  CHECK(errors > 0);
}

TEST_CASE("F07 store: connections that are reset or closed at any byte count every add once") {
  int right = 0, errors = 0;
  play_schedules(
      150,
      [](uint64_t seed) {
        // The first three connections break, each somewhere else.
        return [seed](int n, Direction direction) {
          std::mt19937_64 random(seed * 16 + static_cast<uint64_t>(n));
          const size_t at = random() % 900;
          const bool reset = random() % 2 == 0;
          FlowPlan plan;
          if (n < 3 && direction == static_cast<Direction>(random() % 2))
            (reset ? plan.reset_at : plan.close_at) = at;
          return plan;
        };
      },
      right, errors);
  MESSAGE(right << " calls right, " << errors << " clean errors");
  CHECK(right > 150 * 15);
}

TEST_CASE("F08 store: damaged, missing and repeated bytes are never taken for data") {
  int right = 0, errors = 0;
  play_schedules(
      200,
      [](uint64_t seed) {
        return [seed](int n, Direction direction) {
          std::mt19937_64 random(seed * 16 + static_cast<uint64_t>(n));
          FlowPlan plan;
          if (n > 0 || direction != static_cast<Direction>(random() % 2)) return plan;
          const size_t at = random() % 1500;
          plan.count = 1 + random() % 100;
          switch (random() % 3) {
            case 0: plan.corrupt_at = at; break;
            case 1: plan.drop_at = at; break;
            default: plan.replay_at = at;
          }
          return plan;
        };
      },
      right, errors);
  MESSAGE(right << " calls right, " << errors << " clean errors");
  CHECK(right > 200 * 5);
}

TEST_CASE("F07 store: a reset in the middle of a wait is mended without its caller") {
  StoreServer server({.token = kToken});
  TcpStore direct({.port = server.port(), .token = kToken, .timeout = 10});
  FaultProxy proxy({.server_port = server.port()});
  TcpStore store({.port = proxy.port(), .token = kToken, .timeout = 30});
  std::string got;
  std::thread waiter([&] { got = store.get("late", 30); });
  for (const bool reset : {true, false, true}) {
    store.add("n", 1);  // so that there is a connection to break
    reset ? proxy.reset_all() : proxy.close_all();
  }
  direct.set("late", "value");
  waiter.join();
  CHECK(got == "value");
  CHECK(store.add("n", 1) == 4);
  CHECK(proxy.connections() >= 3);
}
