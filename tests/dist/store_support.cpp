#include <weft/tests/dist/store_support.hpp>

#include <condition_variable>

#include <weft/tests/support/temp_dir.hpp>

namespace weft::test {

using namespace weft::dist;
using namespace weft::dist::detail;

struct Reports::Shared {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<std::string> lines;
};

std::shared_ptr<Reports::Shared> Reports::make() { return std::make_shared<Shared>(); }

std::function<void(std::string_view)> Reports::sink() {
  return [shared = shared_](std::string_view text) {
    const std::lock_guard lock(shared->mutex);
    shared->lines.emplace_back(text);
    shared->changed.notify_all();
  };
}

bool Reports::wait_for(const std::string& text, double seconds) {
  std::unique_lock lock(shared_->mutex);
  return shared_->changed.wait_until(lock, deadline_after(seconds), [&] {
    for (const std::string& line : shared_->lines)
      if (line.find(text) != std::string::npos) return true;
    return false;
  });
}

size_t Reports::count() const {
  const std::lock_guard lock(shared_->mutex);
  return shared_->lines.size();
}

void on_each_store(const std::function<void(Store&)>& test) {
  SUBCASE("in-process") {
    InProcessStore store(5);
    test(store);
  }
  SUBCASE("TCP") {
    StoreServer server({.token = kToken});
    TcpStore store({.port = server.port(), .token = kToken, .timeout = 5});
    test(store);
  }
  SUBCASE("Unix socket") {
    const TempDir folder;
    const std::string address = "unix:" + (folder / "weft/store-job").string();
    StoreServer server({.address = address});
    TcpStore store({.host = address, .timeout = 5});
    test(store);
  }
  SUBCASE("prefix over in-process") {
    PrefixStore store("group 1", std::make_shared<InProcessStore>(5));
    test(store);
  }
  SUBCASE("prefix over TCP") {
    StoreServer server({.token = kToken});
    PrefixStore store("a", std::make_shared<TcpStore>(TcpStoreOptions{
                               .port = server.port(), .token = kToken, .timeout = 5}));
    test(store);
  }
}

RawClient::RawClient(int port) {
  std::string error;
  fd_ = connect_to("127.0.0.1", port, deadline_after(10), error);
  REQUIRE_MESSAGE(fd_, error);
}

void RawClient::send(std::string_view bytes) { send_all(fd_.get(), bytes, deadline_after(10)); }

bool RawClient::handshake(const std::string& token, const std::string& client_id) {
  const std::string hello = make_hello(token, {.rank = 7, .client_id = client_id});
  send(hello);
  const auto challenge = receive(kChallengeSize);
  if (!challenge) return false;
  REQUIRE(check_challenge(token, hello, *challenge));
  send(make_proof(token, hello, *challenge));
  const SessionKeys keys = derive_keys(token, hello, *challenge);
  channel_ = FrameChannel(keys.client, keys.server);
  return true;
}

std::optional<std::string> RawClient::receive(size_t count) {
  std::string bytes;
  if (receive_exactly(fd_.get(), count, bytes, deadline_after(10)) != IoResult::done)
    return std::nullopt;
  return bytes;
}

std::string RawClient::seal(const std::string& frame) {
  std::string bytes;
  channel_.seal(bytes, frame);
  return bytes;
}

void RawClient::send_frame(const std::string& frame) { send(seal(frame)); }

std::optional<std::pair<FrameKind, std::string>> RawClient::reply() {
  const auto header = receive(kFrameHeader);
  if (!header) return std::nullopt;
  // A header whose body is not there yet parses as incomplete, its size known.
  Frame frame;
  parse_frame(*header, frame);
  const auto rest = receive(frame.size - kFrameHeader + kTagSize);
  if (!rest) return std::nullopt;
  size_t size = 0;
  const std::string bytes = *header + *rest;
  REQUIRE(channel_.open(bytes, frame, size) == ParseState::complete);
  return std::pair(frame.kind, std::string(frame.body));
}

bool RawClient::closed_silently() {
  std::string bytes;
  return receive_some(fd_.get(), bytes, deadline_after(10)) == IoResult::closed && bytes.empty();
}

}  // namespace weft::test
