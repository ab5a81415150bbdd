// Barriers, members and their signs of life, epochs.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <weft/core/base/error.hpp>
#include <weft/dist/store/bytes.hpp>
#include <weft/dist/store/members.hpp>
#include <weft/tests/dist/store_support.hpp>
#include <weft/tests/support/errors.hpp>

using namespace weft;
using namespace weft::dist;
using namespace weft::dist::detail;
using namespace weft::test;
using namespace std::chrono_literals;

namespace {

TcpStoreOptions client_of(const StoreServer& server, int rank = -1, int epoch = -1) {
  return {.port = server.port(), .token = kToken, .timeout = 20, .rank = rank, .epoch = epoch};
}

/// Filled by a thread of the store's, awaited by the test.
class Note {
 public:
  std::function<void(std::string_view)> sink() {
    return [this](std::string_view text) {
      const std::lock_guard lock(mutex_);
      text_ = text;
      changed_.notify_all();
    };
  }
  std::string wait() {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, 20s, [this] { return !text_.empty(); });
    return text_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::string text_;
};

/// A client that joins and then does nothing.
struct SilentMember {
  RawClient raw;
  SilentMember(int port, const std::string& name, double limit) : raw(port) {
    REQUIRE(raw.handshake(kToken, random_bytes(kClientIdSize)));
    raw.send_frame(make_request({.kind = FrameKind::join,
                                 .id = 1,
                                 .timeout_us = static_cast<uint64_t>(limit * 1e6),
                                 .strings = {name, ""}}));
    const auto reply = raw.reply();
    REQUIRE(reply);
    REQUIRE(reply->first == FrameKind::value);
  }
};

}  // namespace

TEST_CASE("store: wait_any tells which key is there first") {
  on_each_store([](Store& store) {
    store.set("b", "");
    CHECK(store.wait_any({"a", "b", "c"}) == 1);
    store.set("a", "");
    CHECK(store.wait_any({"a", "b"}) == 0);
    std::thread later([&] { store.set("d", ""); });
    CHECK(store.wait_any({"x", "y", "d"}) == 2);
    later.join();
    CHECK_THROWS_WITH_AS(store.wait_any({"x", "y"}, 0.02), doctest::Contains("y' within "),
                         TimeoutError);
    CHECK_THROWS_AS(store.wait_any({}), ArgumentError);
  });
  InProcessStore store;
  check_error<ArgumentError>("store_wait_any_none", [&] { store.wait_any({}); });
}

TEST_CASE("store: delete_prefix") {
  on_each_store([](Store& store) {
    for (const char* key : {"1/a", "1/b", "12", "2/a"}) store.set(key, "v");
    CHECK(store.delete_prefix("1/") == 2);
    CHECK_FALSE(store.check({"1/a"}));
    CHECK(store.check({"12", "2/a"}));
    CHECK(store.delete_prefix("1/") == 0);
    CHECK_THROWS_AS(store.delete_prefix(""), ArgumentError);
  });
}

TEST_CASE("store: delete_prefix gives the space back") {
  InProcessStore store;
  const std::string value(kMaxStoreValue, 'v');
  for (int round = 0; round < 3; ++round) {  // three times what fits at once
    for (size_t i = 0; i < kMaxStoreBytes / kMaxStoreValue - 1; ++i)
      store.set("attempt/" + std::to_string(i), value);
    store.delete_prefix("attempt/");
  }
}

TEST_CASE("store: a barrier lets all go together, again and again") {
  on_each_store([](Store& store) {
    constexpr int kThreads = 4, kRounds = 5;
    std::atomic<int> arrived = 0;
    std::atomic<bool> early = false;
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t)
      threads.emplace_back([&] {
        for (int round = 1; round <= kRounds; ++round) {
          ++arrived;
          store.barrier("b", kThreads);
          if (arrived < round * kThreads) early = true;
        }
      });
    for (std::thread& thread : threads) thread.join();
    CHECK_FALSE(early);
    store.barrier("alone", 1);
  });
}

TEST_CASE("store: a barrier whose time runs out names who came, and does not count them later") {
  on_each_store([](Store& store) {
    CHECK_THROWS_WITH_AS(store.barrier("b", 2, 0.02), doctest::Contains("1 of 2 calls arrived"),
                         TimeoutError);
    CHECK_THROWS_AS(store.barrier("b", 2, 0.02), TimeoutError);
    CHECK_THROWS_AS(store.barrier("b", 0), ArgumentError);
    std::thread other([&] { store.barrier("b", 2); });
    store.barrier("b", 2);
    other.join();
  });
}

TEST_CASE("store over TCP: a barrier of two sizes is refused") {
  StoreServer server({.token = kToken});
  RawClient first(server.port());
  REQUIRE(first.handshake(kToken, random_bytes(kClientIdSize)));
  first.send_frame(make_request({.kind = FrameKind::barrier,
                                 .id = 1,
                                 .timeout_us = 20'000'000,
                                 .amount = 2,
                                 .strings = {"b"}}));
  first.send_frame(make_request({.kind = FrameKind::check, .id = 2, .strings = {"x"}}));
  CHECK(first.reply()->second == "0");  // the first one waits
  TcpStore second(client_of(server, 1));
  check_error<ArgumentError>("store_barrier_sizes", [&] { second.barrier("b", 3); });
  second.barrier("b", 2);
}

TEST_CASE("store over TCP: a barrier call that is repeated arrives once") {
  StoreServer server({.token = kToken});
  const std::string request = make_request({.kind = FrameKind::barrier,
                                            .id = 1,
                                            .timeout_us = 20'000'000,
                                            .amount = 2,
                                            .strings = {"b"}});
  const std::string id = random_bytes(kClientIdSize);
  RawClient first(server.port()), again(server.port());
  REQUIRE(first.handshake(kToken, id));
  REQUIRE(again.handshake(kToken, id));
  first.send_frame(request);
  first.send_frame(make_request({.kind = FrameKind::check, .id = 2, .strings = {"x"}}));
  CHECK(first.reply()->second == "0");  // the answer to the second: the first one waits
  again.send_frame(request);
  again.send_frame(make_request({.kind = FrameKind::check, .id = 2, .strings = {"x"}}));
  CHECK(again.reply()->second == "0");
  TcpStore other(client_of(server));
  other.barrier("b", 2);
  CHECK(again.reply()->first == FrameKind::value);
  RawClient late(server.port());  // the answer was lost, and is asked for once more
  REQUIRE(late.handshake(kToken, id));
  late.send_frame(request);
  CHECK(late.reply()->first == FrameKind::value);
  CHECK_THROWS_AS(other.barrier("b", 2, 0.02), TimeoutError);
}

TEST_CASE("store: members join and leave") {
  on_each_store([](Store& store) {
    CHECK_THROWS_AS(store.leave(), ArgumentError);
    store.join("node 1", {.detail = "host-a"});
    PrefixStore prefixed("p", std::shared_ptr<Store>(&store, [](Store*) {}));
    CHECK_THROWS_AS(prefixed.join("node 2"), ArgumentError);
    store.leave();
    store.join("node 1");
    prefixed.leave();
    CHECK(store.seconds_since_contact() < 20);
    CHECK(prefixed.seconds_since_contact() < 20);
  });
  InProcessStore own;
  own.join("node 1", {.detail = "host-a"});
  CHECK(own.get(member_key("node 1")) == "host-a");
  own.leave();
  CHECK(own.get(left_key("node 1")) == "host-a");
  CHECK_FALSE(own.check({member_key("node 1")}));
  check_error<ArgumentError>("store_leave", [&] { own.leave(); });
  own.join("a");
  check_error<ArgumentError>("store_join_twice", [&] { own.join("b"); });
  check_error<ArgumentError>("store_join_limits",
                             [&] { own.join("c", {.interval = 3, .limit = 2}); });
  CHECK_THROWS_AS(own.join(std::string(kMaxStoreKey, 'm')), ArgumentError);
}

TEST_CASE("store over TCP: a member that leaves is not gone") {
  StoreServer server({.token = kToken, .reconnect_grace = 0.02});
  TcpStore watcher(client_of(server));
  {
    TcpStore member(client_of(server));
    member.join("a", {.interval = 0.01, .detail = "10.0.0.3"});
    CHECK(watcher.get(member_key("a")) == "10.0.0.3");
    member.leave();
  }
  CHECK(watcher.get(left_key("a")) == "10.0.0.3");
  TcpStore again(client_of(server));
  again.join("a");
  CHECK_FALSE(watcher.check({left_key("a")}));
  CHECK_FALSE(watcher.check({gone_key("a")}));
}

TEST_CASE("store over TCP: a member whose connection closes is gone soon") {
  Note gone;
  StoreServer server(
      {.token = kToken,
       .reconnect_grace = 0.05,
       .on_gone = [sink = gone.sink()](std::string_view member, std::string_view why) {
         sink(std::string(member).append(": ").append(why));
       }});
  TcpStore watcher(client_of(server));
  auto member = std::make_unique<SilentMember>(server.port(), "a", 60);
  CHECK(watcher.check({member_key("a")}));
  member.reset();
  const std::string why = watcher.get(gone_key("a"));
  CHECK(without_digits(why) ==
        "the connection from N.N.N.N:N (rank N) closed and did not come back");
  CHECK_FALSE(watcher.check({member_key("a")}));
  CHECK(gone.wait() == "a: " + why);
}

TEST_CASE("store over TCP: a silent member is gone, and its changes are refused") {
  StoreServer server({.token = kToken});
  TcpStore watcher(client_of(server));
  SilentMember member(server.port(), "a", 0.05);
  CHECK(without_digits(watcher.get(gone_key("a"))) ==
        "no sign of life from N.N.N.N:N (rank N) for N.N s");
  member.raw.send_frame(make_request({.kind = FrameKind::set, .id = 2, .strings = {"k", "v"}}));
  const auto reply = member.raw.reply();
  REQUIRE(reply);
  CHECK(reply->first == FrameKind::refused);
  CHECK(reply->second.starts_with("store: this process was given up: no sign of life"));
  CHECK_FALSE(watcher.check({"k"}));
}

TEST_CASE("store over TCP: a member that beats stays") {
  StoreServer server({.token = kToken});
  TcpStore member(client_of(server));
  member.join("a", {.interval = 0.01, .limit = 5});
  TcpStore other(client_of(server));
  SilentMember silent(server.port(), "b", 0.3);
  CHECK(other.wait_any({gone_key("a"), gone_key("b")}) == 1);
  CHECK(member.seconds_since_contact() < 0.3);
}

TEST_CASE("store over TCP: two processes under one name") {
  StoreServer server({.token = kToken});
  TcpStore a(client_of(server, 1)), b(client_of(server, 1));
  a.join("rank 1");
  check_error<ArgumentError>(
      "store_join_taken", [&] { b.join("rank 1"); }, without_digits);
  a.leave();
  b.join("rank 1");
}

TEST_CASE("store over TCP: a member whose server vanishes is told within its limit") {
  Note lost;
  auto server = std::make_unique<StoreServer>(StoreServerOptions{.token = kToken});
  TcpStore member(client_of(*server));
  member.join("a", {.interval = 0.02, .limit = 0.3, .on_lost = lost.sink()});
  const double seconds = seconds_of([&] {
    server.reset();
    CHECK(without_digits(lost.wait()).find("the store at N.N.N.N:N has not answered for N.N s") ==
          0);
  });
  CHECK(seconds < 10);
}

TEST_CASE("store over TCP: a member that was given up is told") {
  Note lost;
  StoreServer server({.token = kToken});
  TcpStore member(client_of(server));
  member.join("a", {.on_lost = lost.sink()});
  server.publish(gone_key("a"), "somebody said so");
  CHECK(lost.wait() == "the store gave 'a' up: somebody said so");
}

TEST_CASE("store over TCP: a server that does not know a returning client refuses it") {
  auto server = std::make_unique<StoreServer>(StoreServerOptions{.token = kToken});
  const int port = server->port();
  TcpStore store(client_of(*server));
  store.add("n", 1);
  server = nullptr;
  server = std::make_unique<StoreServer>(StoreServerOptions{.port = port, .token = kToken});
  CHECK_THROWS_WITH_AS(store.add("n", 1), doctest::Contains("does not know this process any more"),
                       CommError);
  CHECK_FALSE(TcpStore(client_of(*server)).check({"n"}));
}

TEST_CASE("store over TCP: an old attempt is shut out, and nobody reports it as gone") {
  Reports reports;
  StoreServer server({.token = kToken, .reconnect_grace = 0.01, .report = reports.sink()});
  TcpStore launcher(client_of(server)), old(client_of(server, 0, 0)),
      current(client_of(server, 0, 1));
  old.join("rank 0", {.interval = 0.01});
  old.set("0/address", "x");
  CHECK_THROWS_AS(server.set_epoch(-1), ArgumentError);
  CHECK_THROWS_AS(server.delete_prefix(""), ArgumentError);
  server.set_epoch(1);
  server.delete_prefix("0/");
  check_error<CommError>(
      "store_old_epoch", [&] { old.set("k", "v"); }, without_digits);
  check_error<CommError>(
      "store_old_epoch_new", [&] { TcpStore(client_of(server, 0, 0)); }, without_digits);
  CHECK_FALSE(launcher.check({"0/address"}));
  CHECK_FALSE(launcher.check({member_key("rank 0")}));
  current.join("rank 0");
  current.barrier("b", 1);
  CHECK_FALSE(launcher.check({gone_key("rank 0")}));
  CHECK(reports.wait_for("it belongs to attempt 0 of the job, which is at attempt 1"));
}

TEST_CASE("store over TCP: another job is refused, with the reason") {
  Reports reports;
  StoreServer server({.token = kToken, .job_id = "job a", .report = reports.sink()});
  check_error<CommError>(
      "store_other_job",
      [&] { TcpStore({.port = server.port(), .token = kToken, .job_id = "job b"}); },
      without_digits);
  CHECK(reports.wait_for("it belongs to another job"));
  TcpStore({.port = server.port(), .token = kToken, .job_id = "job a"}).set("k", "v");
  TcpStore({.port = server.port(), .token = kToken}).set("k", "v");
}
