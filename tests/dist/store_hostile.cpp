// Frames that are corrupted, truncated, repeated, swapped, oversized or from elsewhere: they end
// their own connection, with one report, and nothing else.
#include <doctest/doctest.h>

#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <weft/core/base/error.hpp>
#include <weft/dist/store/bytes.hpp>
#include <weft/dist/store/channel.hpp>
#include <weft/dist/store/handshake.hpp>
#include <weft/tests/dist/store_support.hpp>
#include <weft/tests/support/errors.hpp>

using namespace weft;
using namespace weft::dist;
using namespace weft::dist::detail;
using namespace weft::test;

namespace {

TcpStoreOptions client_of(int port) { return {.port = port, .token = kToken, .timeout = 20}; }

std::string add_request(uint64_t id) {
  return make_request({.kind = FrameKind::add, .id = id, .amount = 1, .strings = {"n"}});
}

/// A server with a client that must not notice anything, and an attacker with a valid token.
struct Scene {
  Reports reports;
  StoreServer server{{.token = kToken, .report = reports.sink()}};
  TcpStore bystander{client_of(server.port())};
  RawClient attacker{server.port()};

  Scene() { REQUIRE(attacker.handshake(kToken, random_bytes(kClientIdSize))); }

  /// A good frame of the attacker's is answered; then `bad` ends its connection.
  void refuses(const std::string& good, const std::string& bad, const std::string& report) {
    attacker.send(good);
    if (!good.empty()) CHECK(attacker.reply());
    attacker.send(bad);
    CHECK_FALSE(attacker.reply());
    CHECK(reports.wait_for(report));
    CHECK(reports.count() == 1);
    CHECK(bystander.add("n", 0) == (good.empty() ? 0 : 1));
    TcpStore(client_of(server.port())).set("others", "still come in");
  }
};

const std::string kForged = "(rank 7): it sent a frame that was changed, repeated or out of order";

/// Stands between a client and its server and changes, on the first connection alone, what comes
/// from the server behind the handshake.
class TamperingProxy {
 public:
  TamperingProxy(int server_port, std::function<void(std::string&)> tamper)
      : listener_(listen_on("127.0.0.1", port_)) {
    thread_ = std::thread([this, server_port, tamper = std::move(tamper)] {
      for (int i = 0; i < 2; ++i) {
        wait_ready(listener_.get(), POLLIN, deadline_after(20));
        const Fd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
        std::string error;
        const Fd server = connect_to("127.0.0.1", server_port, deadline_after(20), error);
        pass(
            client.get(), server.get(), i == 0 ? tamper : [](std::string&) {});
        ++connections;
      }
    });
  }
  ~TamperingProxy() { thread_.join(); }
  int port() const { return port_; }

  std::atomic<int> connections = 0;

 private:
  static void pass(int client, int server, const std::function<void(std::string&)>& tamper) {
    size_t passed = 0;
    for (;;) {
      pollfd ends[2] = {{client, POLLIN, 0}, {server, POLLIN, 0}};
      if (::poll(ends, 2, 20'000) <= 0) return;
      std::string bytes;
      const bool from_client = ends[0].revents != 0;
      if (receive_some(from_client ? client : server, bytes, deadline_after(20)) != IoResult::done)
        return;
      const size_t before = passed;
      if (!from_client) passed += bytes.size();
      if (!from_client && before >= kChallengeSize) tamper(bytes);
      send_all(from_client ? server : client, bytes, deadline_after(20));
    }
  }

  int port_ = 0;
  Fd listener_;
  std::thread thread_;
};

}  // namespace

TEST_CASE("F08: a frame with any bit changed is refused") {
  const std::string keys(32, 'k');
  std::string sealed;
  FrameChannel(keys, keys).seal(sealed, add_request(1));
  Frame frame;
  size_t size = 0;
  CHECK(FrameChannel(keys, keys).open(sealed, frame, size) == ParseState::complete);
  CHECK(size == sealed.size());
  for (size_t bit = 0; bit < 8 * sealed.size(); ++bit) {
    std::string changed = sealed;
    changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ (1 << (bit % 8)));
    CHECK(FrameChannel(keys, keys).open(changed, frame, size) != ParseState::complete);
  }
  for (size_t length = 0; length < sealed.size(); ++length)
    CHECK(FrameChannel(keys, keys).open(sealed.substr(0, length), frame, size) ==
          ParseState::incomplete);
  CHECK(FrameChannel(keys, std::string(32, 'x')).open(sealed, frame, size) == ParseState::forged);
}

TEST_CASE("F08: frames count up: none is repeated, left out or swapped") {
  const std::string key(32, 'k');
  FrameChannel sender(key, "");
  std::string first, second;
  sender.seal(first, add_request(1));
  sender.seal(second, add_request(2));
  Frame frame;
  size_t size = 0;
  FrameChannel in_order("", key);
  CHECK(in_order.open(first, frame, size) == ParseState::complete);
  CHECK(in_order.open(second, frame, size) == ParseState::complete);
  FrameChannel repeated("", key);
  CHECK(repeated.open(first, frame, size) == ParseState::complete);
  CHECK(repeated.open(first, frame, size) == ParseState::forged);
  CHECK(FrameChannel("", key).open(second, frame, size) == ParseState::forged);
}

TEST_CASE("F08: keys differ by direction and by connection") {
  const std::string hello = make_hello(kToken, {.rank = 0, .client_id = random_bytes(16)});
  const SessionKeys a = derive_keys(kToken, hello, make_challenge(kToken, hello));
  const SessionKeys b = derive_keys(kToken, hello, make_challenge(kToken, hello));
  CHECK(a.client.size() == 32);
  CHECK(a.client != a.server);
  CHECK(a.client != b.client);
  CHECK(a.server != b.server);
}

TEST_CASE("F08: a corrupted frame ends its connection") {
  Scene scene;
  const std::string good = scene.attacker.seal(add_request(1));
  std::string bad = scene.attacker.seal(add_request(2));
  bad[kFrameHeader + 20] ^= 4;
  scene.refuses(good, bad + scene.attacker.seal(add_request(3)), kForged);
}

TEST_CASE("F08: a truncated frame ends its connection") {
  Scene scene;
  const std::string good = scene.attacker.seal(add_request(1));
  const std::string cut = scene.attacker.seal(add_request(2));
  scene.refuses(good, cut.substr(0, cut.size() - 9) + scene.attacker.seal(add_request(3)), kForged);
}

TEST_CASE("F08: a frame cut off by the end of its connection is not done") {
  StoreServer server({.token = kToken});
  TcpStore bystander(client_of(server.port()));
  {
    RawClient raw(server.port());
    REQUIRE(raw.handshake(kToken, random_bytes(kClientIdSize)));
    const std::string whole = raw.seal(add_request(1));
    raw.send(whole.substr(0, whole.size() - 1));
  }
  CHECK(bystander.add("n", 1) == 1);
}

TEST_CASE("F08: a replayed frame ends its connection and does not count") {
  Scene scene;
  const std::string good = scene.attacker.seal(add_request(1));
  scene.refuses(good, good, kForged);
}

TEST_CASE("F08: a frame of another connection ends this one") {
  Scene scene;
  RawClient other(scene.server.port());
  REQUIRE(other.handshake(kToken, random_bytes(kClientIdSize)));
  scene.refuses("", other.seal(add_request(1)), kForged);
}

TEST_CASE("F08: an unsealed frame ends its connection") {
  Scene scene;
  scene.refuses("", add_request(1) + add_request(2), kForged);
}

TEST_CASE("F08: an oversized frame ends its connection before its body comes") {
  Scene scene;
  std::string header;
  put<uint32_t>(header, static_cast<uint32_t>(kMaxFrameBody) + 1);
  put<uint16_t>(header, static_cast<uint16_t>(FrameKind::set));
  put<uint16_t>(header, 0);
  put<uint64_t>(header, 1);
  scene.refuses("", header, "(rank 7): it sent a malformed frame");
}

TEST_CASE("F08: an old version and another language are told apart") {
  Reports reports;
  StoreServer server({.token = kToken, .report = reports.sink()});
  std::string old_hello = make_hello(kToken, {.rank = 0, .client_id = random_bytes(16)});
  old_hello[4] = 1;
  RawClient old(server.port());
  old.send(old_hello.substr(0, 96));  // as long as hellos of version 1 were
  CHECK(old.closed_silently());
  CHECK(reports.wait_for("it speaks version 1 of the store's protocol, not 2"));
  RawClient web(server.port());
  web.send("GET / HTTP/1.1\r\n\r\n");
  CHECK(web.closed_silently());
  CHECK(reports.wait_for("it speaks another language"));
  std::string flags = make_hello(kToken, {.rank = 0, .client_id = random_bytes(16)});
  flags[6] = 2;
  RawClient unknown(server.port());
  unknown.send(flags);
  CHECK(unknown.closed_silently());
  CHECK(reports.wait_for("its hello is malformed"));
}

TEST_CASE("F08: a peer that fails again and again is reported once") {
  Reports reports;
  StoreServer server({.token = kToken, .report = reports.sink()});
  for (int i = 0; i < 10; ++i) {
    RawClient raw(server.port());
    raw.send(make_hello("the token of another job", {.rank = 1, .client_id = random_bytes(16)}));
    CHECK(raw.closed_silently());
  }
  CHECK(reports.wait_for("it does not know the job's token"));
  CHECK(reports.count() == 1);
}

TEST_CASE("F08: the client repeats a call whose reply was corrupted, counted once") {
  StoreServer server({.token = kToken});
  for (const size_t from_end : {1, 16, 17, 24}) {  // in the tag, in the body
    CAPTURE(from_end);
    TamperingProxy proxy(server.port(),
                         [&](std::string& bytes) { bytes[bytes.size() - from_end] ^= 1; });
    TcpStore store(client_of(proxy.port()));
    const int64_t before = store.add("n", 1);
    CHECK(proxy.connections == 1);
    CHECK(store.add("n", 1) == before + 1);
  }
  CHECK(TcpStore(client_of(server.port())).get("n") == "8");
}

TEST_CASE("F08: the client repeats a call whose reply was repeated by another") {
  StoreServer server({.token = kToken});
  {
    TamperingProxy proxy(server.port(), [](std::string& bytes) { bytes += bytes; });
    TcpStore store(client_of(proxy.port()));
    CHECK(store.add("n", 1) == 1);  // the first copy is good
    CHECK(store.add("n", 1) == 2);
  }
  CHECK(TcpStore(client_of(server.port())).get("n") == "2");
}

TEST_CASE("store handshake: the server's side takes bytes one by one and fails for good") {
  const auto admit = [](const Hello&) { return RefusalReason{}; };
  const std::string hello = make_hello(kToken, {.rank = 5, .client_id = random_bytes(16)});
  ServerHandshake handshake(kToken, true, admit);
  std::string in, out;
  for (const char c : hello) {
    CHECK(handshake.advance(in += c, out) != ServerHandshake::State::open);
  }
  REQUIRE(out.size() == kChallengeSize);
  CHECK(handshake.hello().rank == 5);
  ServerHandshake::State state = ServerHandshake::State::proof;
  for (const char c : make_proof(kToken, hello, out)) state = handshake.advance(in += c, out);
  CHECK(state == ServerHandshake::State::open);
  CHECK(in.empty());

  ServerHandshake other(kToken, true, admit);
  std::string bytes = hello + std::string(kProofSize, 'x');
  CHECK(other.advance(bytes, out) == ServerHandshake::State::failed);
  CHECK(other.problem() == "its proof of the token is wrong");
  bytes = hello;
  CHECK(other.advance(bytes, out) == ServerHandshake::State::failed);
}
