#include <weft/tests/dist/store_simulated.hpp>

#include <utility>

#include <weft/dist/store/bytes.hpp>
#include <weft/dist/store/store.hpp>
#include <weft/tests/dist/store_support.hpp>

namespace weft::test {

using namespace std::chrono_literals;
using namespace weft::dist::detail;
using weft::dist::gone_key;

namespace {

constexpr double kInterval = 2, kLimit = 10;  // MemberOptions' defaults
constexpr double kSlack = 3;                  // that an answer may be late; as Heartbeat's

}  // namespace

SimulatedServer::SimulatedServer(SimulatedNetwork& network, int host, Clock::duration grace)
    : network_(network),
      host_(host),
      service_({.send =
                    [this](uint64_t id, std::string frame) {
                      const auto found = connections_.find(id);
                      if (found == connections_.end()) return;
                      std::string bytes;
                      found->second.channel.seal(bytes, frame);
                      found->second.socket->send(std::move(bytes));
                    }},
               grace) {
  network.listen(host, [this](SimulatedNetwork::SocketPtr socket) { accept(std::move(socket)); });
}

void SimulatedServer::accept(SimulatedNetwork::SocketPtr socket) {
  const uint64_t id = next_++;
  socket->on_bytes = [this, id](std::string_view bytes) { receive(id, bytes); };
  socket->on_close = [this, id] { drop(id); };
  const auto admit = [this](const Hello& hello) {
    const bool unknown = hello.returning && !service_.knows(hello.client_id);
    return RefusalReason{.code = unknown ? Refusal::unknown_client : Refusal::none};
  };
  connections_[id] = {.socket = std::move(socket),
                      .handshake = std::make_unique<ServerHandshake>(kToken, true, admit),
                      .channel = {},
                      .in = {}};
  network_.after(
      5s,
      [this, id] {
        const auto found = connections_.find(id);
        if (found != connections_.end() && found->second.handshake) drop(id);
      },
      host_);
}

bool SimulatedServer::shake_hands(uint64_t id, Connection& connection) {
  std::string out;
  const auto state = connection.handshake->advance(connection.in, out);
  connection.socket->send(std::move(out));
  if (state == ServerHandshake::State::failed) drop(id);
  if (state != ServerHandshake::State::open) return false;
  connection.channel = connection.handshake->make_channel();
  const Hello& hello = connection.handshake->hello();
  service_.connected(id, {.id = hello.client_id, .peer = "peer", .rank = hello.rank},
                     network_.now());
  connection.handshake.reset();
  return true;
}

void SimulatedServer::receive(uint64_t id, std::string_view bytes) {
  const auto found = connections_.find(id);
  if (found == connections_.end()) return;
  Connection& connection = found->second;
  connection.in += bytes;
  if (connection.handshake && !shake_hands(id, connection)) return;
  for (;;) {
    Frame frame;
    size_t size = 0;
    const ParseState state = connection.channel.open(connection.in, frame, size);
    if (state == ParseState::incomplete) break;
    const auto request =
        state == ParseState::complete ? parse_request(frame) : std::optional<Request>();
    if (!request) return drop(id);
    connection.in.erase(0, size);
    service_.handle(id, *request, network_.now());
    if (!connections_.contains(id)) return;
  }
  set_timer();
}

void SimulatedServer::drop(uint64_t id) {
  const auto found = connections_.find(id);
  if (found == connections_.end()) return;
  found->second.socket->close();
  connections_.erase(found);
  service_.disconnected(id, network_.now());
  set_timer();
}

void SimulatedServer::set_timer() {
  const auto next = service_.next_deadline();
  if (!next || (timer_ && *timer_ <= *next)) return;
  timer_ = next;
  network_.after(
      std::max(Clock::duration(0), *next - network_.now()),
      [this, at = *next] {
        if (timer_ != at) return;
        timer_.reset();
        service_.expire(network_.now());
        set_timer();
      },
      host_);
}

SimulatedClient::SimulatedClient(SimulatedNetwork& network, int host, int server, int rank)
    : network_(network), host_(host), server_(server), rank_(rank) {
  for (size_t i = 0; i < kClientIdSize; ++i) id_ += static_cast<char>(network.random()());
  contact_ = network.now();
  connect();
}

void SimulatedClient::connect() {
  if (lost_ || stage_ != Stage::none) return;
  stage_ = Stage::connecting;
  network_.connect(host_, server_, [this](SimulatedNetwork::SocketPtr socket) {
    if (lost_) return;
    if (!socket) return retry();
    connected(std::move(socket));
  });
}

void SimulatedClient::retry() {
  stage_ = Stage::none;
  network_.after(
      network_.between(10ms, 250ms), [this] { connect(); }, host_);
}

void SimulatedClient::connected(SimulatedNetwork::SocketPtr socket) {
  socket_ = std::move(socket);
  stage_ = Stage::challenge;
  in_.clear();
  hello_ = make_hello(kToken, {.rank = rank_, .client_id = id_, .returning = answered_});
  // Of an old connection nothing is read any more, as its object is gone.
  socket_->on_bytes = [this](std::string_view bytes) { receive(bytes); };
  socket_->on_close = [this] { disconnect(); };
  socket_->send(hello_);
  network_.after(
      5s,
      [this, own = std::weak_ptr(socket_)] {
        if (stage_ == Stage::challenge && own.lock() == socket_) disconnect();
      },
      host_);
}

void SimulatedClient::disconnect() {
  if (!socket_) return;
  socket_->on_bytes = nullptr;
  socket_->on_close = nullptr;
  socket_->close();
  socket_.reset();
  if (!lost_) retry();
}

void SimulatedClient::receive(std::string_view bytes) {
  in_ += bytes;
  if (stage_ == Stage::challenge && !take_challenge()) return;
  take_frames();
}

bool SimulatedClient::take_challenge() {
  if (in_.size() < kChallengeSize) return false;
  const std::string challenge = in_.substr(0, kChallengeSize);
  in_.erase(0, kChallengeSize);
  if (check_refusal(kToken, hello_, challenge)) {
    lose("refused");
    return false;
  }
  if (!check_challenge(kToken, hello_, challenge)) {  // tampered with
    disconnect();
    return false;
  }
  const SessionKeys keys = derive_keys(kToken, hello_, challenge);
  channel_ = FrameChannel(keys.client, keys.server);
  socket_->send(make_proof(kToken, hello_, challenge));
  ++link_;
  stage_ = Stage::open;
  contact_ = network_.now();
  send_pending();
  return true;
}

void SimulatedClient::send_pending() {
  if (stage_ != Stage::open) return;
  for (const auto& [id, then] : pending_)
    if (const auto frame = calls_.to_send(id, link_)) {
      std::string bytes;
      channel_.seal(bytes, *frame);
      socket_->send(std::move(bytes));
    }
}

void SimulatedClient::take_frames() {
  for (;;) {
    Frame frame;
    size_t size = 0;
    const ParseState state = channel_.open(in_, frame, size);
    if (state == ParseState::incomplete) break;
    if (state != ParseState::complete) return disconnect();
    calls_.deliver(frame);
    answered_ = true;
    in_.erase(0, size);
    contact_ = network_.now();
  }
  settle();
}

/// Gives answered calls their results.
void SimulatedClient::settle() {
  std::vector<uint64_t> ready;
  for (const auto& [id, then] : pending_)
    if (calls_.answered(id)) ready.push_back(id);
  for (const uint64_t id : ready) {
    const auto found = pending_.find(id);
    if (found == pending_.end()) continue;
    const Then then = std::move(found->second);
    pending_.erase(found);
    then(calls_.end(id));
  }
}

void SimulatedClient::call(Request request, double timeout, Then then) {
  if (lost_) return then(std::nullopt);
  if (request.timeout_us == 0) request.timeout_us = static_cast<uint64_t>(timeout * 1e6);
  const uint64_t id = calls_.begin(std::move(request));
  pending_.emplace(id, std::move(then));
  network_.after(
      to_duration(timeout + kSlack),
      [this, id] {
        const auto found = pending_.find(id);
        if (found == pending_.end()) return;
        const Then late = std::move(found->second);
        pending_.erase(found);
        calls_.end(id);
        late(std::nullopt);
      },
      host_);
  send_pending();
}

void SimulatedClient::join(const std::string& member, std::function<void()> then) {
  call({.kind = FrameKind::join,
        .timeout_us = static_cast<uint64_t>(kLimit * 1e6),
        .strings = {member, ""}},
       60, [this, member, then = std::move(then)](std::optional<Reply> reply) {
         if (!reply || reply->kind != FrameKind::value) return lose("could not join");
         member_ = member;
         beat();
         then();
       });
}

void SimulatedClient::leave(std::function<void()> then) {
  call({.kind = FrameKind::leave, .strings = {}}, 60,
       [this, then = std::move(then)](std::optional<Reply> reply) {
         if (!reply || reply->kind != FrameKind::value) return lose("could not leave");
         member_.clear();
         then();
       });
}

// Note [A heartbeat is a wait]
void SimulatedClient::beat() {
  if (lost_ || member_.empty()) return;
  const double silence = std::chrono::duration<double>(network_.now() - contact_).count();
  if (silence >= kLimit) return lose("silence of the store");
  call({.kind = FrameKind::wait_any, .strings = {gone_key(member_)}},
       std::min(kInterval, kLimit - silence), [this](std::optional<Reply> reply) {
         if (reply && reply->kind == FrameKind::value) return lose("given up by the store");
         beat();
       });
}

void SimulatedClient::lose(const std::string& why) {
  if (lost_) return;
  lost_ = true;
  why_ = why;
  disconnect();
  for (auto& [id, then] : std::exchange(pending_, {})) {
    calls_.end(id);
    then(std::nullopt);
  }
}

}  // namespace weft::test
