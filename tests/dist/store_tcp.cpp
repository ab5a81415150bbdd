// The store over TCP: tokens, hostile bytes, lost connections, many clients.
#include <doctest/doctest.h>

#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <weft/core/base/error.hpp>
#include <weft/dist/store/bytes.hpp>
#include <weft/tests/dist/store_support.hpp>
#include <weft/tests/support/errors.hpp>

using namespace weft;
using namespace weft::dist;
using namespace weft::dist::detail;
using namespace weft::test;

namespace {

TcpStoreOptions client_of(const StoreServer& server, double timeout = 10) {
  return {.port = server.port(), .token = kToken, .timeout = timeout};
}

std::string add_request(uint64_t id, uint64_t acknowledged = 0) {
  return make_request({.kind = FrameKind::add,
                       .id = id,
                       .acknowledged = acknowledged,
                       .amount = 1,
                       .strings = {"n"}});
}

int64_t count_in(const std::string& body) { return Reader(body).take<int64_t>(); }

/// Stands between client and server. Passes the handshake of the first connection, then its first
/// request, and cuts the connection in place of the reply; the next connection passes whole.
class CuttingProxy {
 public:
  explicit CuttingProxy(int server_port) : listener_(listen_on("127.0.0.1", port_)) {
    thread_ = std::thread([this, server_port] {
      for (int i = 0; i < 2; ++i) {
        wait_ready(listener_.get(), POLLIN, deadline_after(10));
        Fd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
        std::string error;
        const Fd server = connect_to("127.0.0.1", server_port, deadline_after(10), error);
        pass(client.get(), server.get(), i == 0 ? kChallengeSize : std::string::npos);
      }
    });
  }
  ~CuttingProxy() { thread_.join(); }
  int port() const { return port_; }

 private:
  /// Passes bytes both ways, at most `limit` of them towards the client.
  static void pass(int client, int server, size_t limit) {
    size_t passed = 0;
    for (;;) {
      pollfd ends[2] = {{client, POLLIN, 0}, {server, POLLIN, 0}};
      if (::poll(ends, 2, 10'000) <= 0) return;
      std::string bytes;
      const bool from_client = ends[0].revents != 0;
      if (receive_some(from_client ? client : server, bytes, deadline_after(10)) != IoResult::done)
        return;
      if (!from_client && (passed += bytes.size()) > limit) return;
      send_all(from_client ? server : client, bytes, deadline_after(10));
    }
  }

  int port_ = 0;
  Fd listener_;
  std::thread thread_;
};

}  // namespace

TEST_CASE("store over TCP: clients see each other's keys") {
  StoreServer server({.token = kToken});
  CHECK(server.address() == "127.0.0.1");
  TcpStore a(client_of(server)), b(client_of(server));
  std::thread later([&] { b.set("from b", "1"); });
  CHECK(a.get("from b") == "1");
  later.join();
  CHECK(a.add("n", 2) == 2);
  CHECK(b.add("n", 3) == 5);
}

TEST_CASE("store over TCP: a long wait of one thread holds up no other") {
  StoreServer server({.token = kToken});
  TcpStore store(client_of(server));
  std::atomic<bool> woken = false;
  std::thread watcher([&] {
    CHECK(store.get("rank_exit/0", 30) == "gone");
    woken = true;
  });
  for (int i = 0; i < 200; ++i) store.add("n", 1);
  CHECK_FALSE(woken);
  CHECK(store.get("n") == "200");
  store.set("rank_exit/0", "gone");
  watcher.join();
}

TEST_CASE("store over TCP: the host publishes without a client") {
  StoreServer server({.token = kToken});
  TcpStore store(client_of(server));
  std::thread watcher([&] { CHECK(store.get(rank_exit_key(2)) == "rank 2 exited with 7"); });
  server.publish(rank_exit_key(2), "rank 2 exited with 7");
  watcher.join();
  CHECK_THROWS_AS(server.publish("", "x"), ArgumentError);
  CHECK_THROWS_AS(server.publish("k", std::string(kMaxStoreValue + 1, 'v')), ArgumentError);
}

TEST_CASE("store over TCP: a wrong token gets no byte of answer") {
  Reports reports;
  StoreServer server({.token = kToken, .report = reports.sink()});
  CHECK_THROWS_WITH_AS(
      TcpStore({.port = server.port(), .token = "the token of another job", .timeout = 10}),
      doctest::Contains("refused the handshake"), CommError);
  CHECK(reports.wait_for("does not know the job's token"));
  RawClient raw(server.port());
  raw.send(make_hello("the token of another job", {.rank = 0, .client_id = random_bytes(16)}));
  CHECK(raw.closed_silently());
  TcpStore good(client_of(server));
  good.set("k", "v");
}

TEST_CASE("store over TCP: a server without the token is refused by the client") {
  int port = 0;
  const Fd listener = listen_on("127.0.0.1", port);
  std::thread impostor([&] {
    wait_ready(listener.get(), POLLIN, deadline_after(10));
    const Fd peer(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    std::string hello;
    CHECK(receive_exactly(peer.get(), kHelloSize, hello, deadline_after(10)) == IoResult::done);
    send_all(peer.get(), std::string(kChallengeSize, 'x'), deadline_after(10));
    std::string rest;
    CHECK(receive_some(peer.get(), rest, deadline_after(10)) == IoResult::closed);
  });
  check_error<CommError>(
      "store_impostor", [&] { TcpStore({.port = port, .token = kToken, .timeout = 10}); },
      without_digits);
  impostor.join();
}

TEST_CASE("store over TCP: a replayed hello does not open a connection") {
  StoreServer server({.token = kToken});
  const std::string hello = make_hello(kToken, {.rank = 0, .client_id = random_bytes(16)});
  RawClient first(server.port());
  first.send(hello);
  const auto challenge = first.receive(kChallengeSize);
  REQUIRE(challenge);
  const std::string proof = make_proof(kToken, hello, *challenge);

  Reports reports;
  RawClient second(server.port());
  second.send(hello);
  CHECK(second.receive(kChallengeSize));  // a fresh one, which the old proof does not answer
  second.send(proof + add_request(1));
  CHECK_FALSE(second.reply());
  TcpStore store(client_of(server));
  CHECK_FALSE(store.check({"n"}));
}

TEST_CASE("store over TCP: garbage instead of a handshake is dropped without an answer") {
  Reports reports;
  StoreServer server({.token = kToken, .report = reports.sink()});
  TcpStore bystander(client_of(server));
  RawClient web(server.port());
  web.send(
      "GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: somebody who is lost\r\nAccept: "
      "*/*\r\nConnection: keep-alive\r\n\r\n");
  CHECK(web.closed_silently());
  bystander.set("still", "here");
  CHECK(bystander.get("still") == "here");
}

TEST_CASE("store over TCP: a handshake that does not go on ends at its deadline") {
  Reports reports;
  StoreServer server({.token = kToken, .handshake_timeout = 0.1, .report = reports.sink()});
  RawClient silent(server.port()), half(server.port());
  half.send(make_hello(kToken, {.rank = 0, .client_id = random_bytes(16)}));
  CHECK(silent.closed_silently());
  CHECK(half.receive(kChallengeSize));
  CHECK(half.closed_silently());
  CHECK(reports.wait_for("did not finish the handshake in time"));
}

TEST_CASE("store over TCP: more silent connections than fit do not keep a rank out for long") {
  StoreServer server({.token = kToken, .handshake_timeout = 0.2});
  std::vector<std::unique_ptr<RawClient>> silent;
  for (int i = 0; i < 100; ++i) silent.push_back(std::make_unique<RawClient>(server.port()));
  TcpStore store(client_of(server));
  store.set("k", "v");
  CHECK(store.get("k") == "v");
}

TEST_CASE("store over TCP: a malformed frame drops its connection and no other") {
  Reports reports;
  StoreServer server({.token = kToken, .report = reports.sink()});
  TcpStore bystander(client_of(server));
  const auto drops = [&](const std::string& bytes) {
    RawClient raw(server.port());
    REQUIRE(raw.handshake(kToken, random_bytes(kClientIdSize)));
    raw.send_frame(bytes);
    return !raw.reply().has_value();
  };
  std::string oversize;
  put<uint32_t>(oversize, 0xffffffffu);
  put<uint16_t>(oversize, 1);
  put<uint16_t>(oversize, 0);
  put<uint64_t>(oversize, 1);
  CHECK(drops(oversize));
  CHECK(drops(std::string(64, '\xff')));
  CHECK(drops(make_frame(FrameKind::set, 1, "no request")));
  CHECK(drops(make_frame(static_cast<FrameKind>(500), 1, "")));
  CHECK(drops(make_request({.kind = FrameKind::get, .id = 1, .strings = {std::string(600, 'k')}})));
  CHECK(reports.wait_for("(rank 7): it sent a malformed frame"));
  CHECK(reports.count() == 1);  // each problem of a peer once
  CHECK(bystander.add("n", 1) == 1);
}

TEST_CASE("store over TCP: a frame in single bytes arrives") {
  StoreServer server({.token = kToken});
  RawClient raw(server.port());
  REQUIRE(raw.handshake(kToken, random_bytes(kClientIdSize)));
  for (const char c : raw.seal(add_request(1))) raw.send(std::string_view(&c, 1));
  const auto reply = raw.reply();
  REQUIRE(reply);
  CHECK(count_in(reply->second) == 1);
}

TEST_CASE("store over TCP: a client that asks much and reads late gets every answer") {
  StoreServer server({.token = kToken});
  TcpStore store(client_of(server));
  const std::string value(kMaxStoreValue, 'v');
  store.set("big", value);
  RawClient raw(server.port());
  REQUIRE(raw.handshake(kToken, random_bytes(kClientIdSize)));
  std::string requests;
  constexpr int kGets = 100;  // 100 MiB of answers, above what the server keeps for one reader
  for (uint64_t id = 1; id <= kGets; ++id)
    requests += raw.seal(make_request({.kind = FrameKind::get, .id = id, .strings = {"big"}}));
  raw.send(requests);
  CHECK(store.add("n", 1) == 1);  // others are served meanwhile
  int answers = 0;
  for (; answers < kGets; ++answers) {
    const auto reply = raw.reply();
    if (!reply || reply->second.size() != value.size()) break;
  }
  CHECK(answers == kGets);
}

TEST_CASE("store over TCP: a repeated add counts once") {
  StoreServer server({.token = kToken});
  const std::string id = random_bytes(kClientIdSize);
  for (int attempt = 0; attempt < 3; ++attempt) {
    RawClient raw(server.port());
    REQUIRE(raw.handshake(kToken, id));
    raw.send_frame(add_request(1));
    const auto reply = raw.reply();
    REQUIRE(reply);
    CHECK(count_in(reply->second) == 1);
  }
  RawClient raw(server.port());
  REQUIRE(raw.handshake(kToken, id));
  raw.send_frame(add_request(2, 2));  // all before it are acknowledged
  CHECK(count_in(raw.reply()->second) == 2);
  raw.send_frame(add_request(1));  // a late copy of the first
  CHECK(raw.reply()->first == FrameKind::refused);
  RawClient other(server.port());
  REQUIRE(other.handshake(kToken, random_bytes(kClientIdSize)));
  other.send_frame(add_request(1));  // the same id of another client is another request
  CHECK(count_in(other.reply()->second) == 3);
}

TEST_CASE("store over TCP: a client whose connection breaks repeats its call, counted once") {
  StoreServer server({.token = kToken});
  TcpStore direct(client_of(server));
  CuttingProxy proxy(server.port());
  {
    TcpStore store({.port = proxy.port(), .token = kToken, .timeout = 10});
    CHECK(store.add("n", 5) == 5);
    CHECK(store.add("n", 1) == 6);
  }
  CHECK(direct.get("n") == "6");
}

TEST_CASE("store over TCP: calls fail soon when the server is gone") {
  auto server = std::make_unique<StoreServer>(StoreServerOptions{.token = kToken});
  TcpStore store(client_of(*server, 60));
  std::thread waiter([&] { CHECK_THROWS_AS(store.get("never"), CommError); });
  store.set("k", "v");
  const double seconds = seconds_of([&] {
    server.reset();
    CHECK_THROWS_WITH_AS(store.get("k"), doctest::Contains("was lost"), CommError);
    waiter.join();
  });
  CHECK(seconds < 10);
}

TEST_CASE("store over TCP: a server that has ended is not looked for by every call") {
  auto server = std::make_unique<StoreServer>(StoreServerOptions{.token = kToken});
  TcpStore store({.port = server->port(), .token = kToken});
  store.set("a", "1");
  server.reset();
  CHECK_THROWS_AS(store.get("a"), CommError);  // finds out, which takes about 2 s
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 20; ++i) CHECK_THROWS_AS(store.get("a"), CommError);
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(5));
}

TEST_CASE("store over TCP: a client waits for a server that starts later") {
  int port = 0;
  { const Fd probe = listen_on("127.0.0.1", port); }
  std::unique_ptr<StoreServer> server;
  std::thread later([&] {
    server = std::make_unique<StoreServer>(StoreServerOptions{.port = port, .token = kToken});
  });
  TcpStore store({.port = port, .token = kToken, .timeout = 10});
  later.join();
  store.set("k", "v");
}

TEST_CASE("store over TCP: 200 clients at once meet at a barrier") {
  StoreServer server({.token = kToken});
  constexpr int kClients = 200;
  std::atomic<int> through = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < kClients; ++i)
    threads.emplace_back([&, i] {
      TcpStore store({.port = server.port(), .token = kToken, .timeout = 60, .rank = i});
      store.set("address/" + std::to_string(i), std::to_string(i * i));
      if (store.add("arrived", 1) == kClients) store.set("all", "");
      store.wait({"all"});
      const int next = (i + 1) % kClients;
      if (store.get("address/" + std::to_string(next)) == std::to_string(next * next)) ++through;
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(through == kClients);
}

TEST_CASE("store over TCP: error texts") {
  int port = 0;
  const Fd taken = listen_on("127.0.0.1", port);
  check_error<IoError>(
      "store_port_taken", [&] { StoreServer({.port = port, .token = kToken}); }, without_digits);
  check_error<ArgumentError>("store_wildcard",
                             [&] { StoreServer({.address = "0.0.0.0", .token = kToken}); });
  CHECK_THROWS_AS(StoreServer({.address = "::", .token = kToken}), ArgumentError);
  check_error<ArgumentError>("store_no_address",
                             [&] { StoreServer({.address = "no such host", .token = kToken}); });
  check_error<ArgumentError>("store_token_short", [&] { StoreServer({.token = "secret"}); });
  check_error<ArgumentError>("store_port", [&] { TcpStore({.port = 0, .token = kToken}); });
  CHECK_THROWS_AS(TcpStore({.port = port, .token = "short"}), ArgumentError);
  int free_port = 0;
  { const Fd probe = listen_on("127.0.0.1", free_port); }
  check_error<TimeoutError>(
      "store_nobody_listens",
      [&] { TcpStore({.port = free_port, .token = kToken, .timeout = 0.05}); },
      [](std::string text) { return without_digits(replaced(std::move(text), "0.", "")); });
  check_error<CommError>("store_no_such_host", [&] {
    TcpStore({.host = "no such host", .port = 1, .token = kToken, .timeout = 1});
  });
  StoreServer server({.token = kToken});
  check_error<CommError>(
      "store_wrong_token",
      [&] { TcpStore({.port = server.port(), .token = "the token of another job"}); },
      without_digits);
}
