#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <utility>

#include <weft/core/base/check.hpp>
#include <weft/dist/store/auth.hpp>
#include <weft/dist/store/channel.hpp>
#include <weft/dist/store/handshake.hpp>
#include <weft/dist/store/local_socket.hpp>
#include <weft/dist/store/service.hpp>
#include <weft/dist/store/socket.hpp>
#include <weft/dist/store/tcp_store.hpp>

namespace weft::inline v0::dist {

using namespace detail;
using weft::detail::fail;

namespace {

constexpr const char *kLoopback = "127.0.0.1", *kLoopback6 = "::1";

constexpr size_t kMaxUnproven = 64;       // connections still in the handshake; more wait in line
constexpr size_t kMaxUnsent = 16u << 20;  // bytes of replies before a slow reader is left unread
constexpr double kAcceptPause = 0.2;      // seconds without descriptors before accepting again
constexpr size_t kMaxReported = 256;      // different problems that are reported
constexpr uint64_t kListener = 0;         // epoll tags; connections count from 2
constexpr uint64_t kWakeup = 1;

struct Connection {
  Fd fd;
  TimePoint deadline;                          // of the handshake
  std::unique_ptr<ServerHandshake> handshake;  // until it is done
  FrameChannel channel;
  std::string peer;
  std::string in, out;
  size_t sent = 0;      // bytes of `out` that are gone
  bool ending = false;  // closed once `out` is sent
  uint32_t interest = EPOLLIN;
};

/// What other threads leave for the server's thread.
struct Message {
  enum class Kind { publish, delete_prefix, set_epoch } kind;
  std::string key = {}, value = {};
  int epoch = 0;
};

Clock::duration grace_of(const StoreServerOptions& options) {
  if (options.reconnect_grace >= 0) return to_duration(options.reconnect_grace);
  return to_duration(is_local(options.address) ? 0.5 : 3.0);
}

}  // namespace

struct StoreServer::Impl {
  explicit Impl(StoreServerOptions from) : options(std::move(from)) {}

  StoreServerOptions options;
  int port = 0;
  std::string secret;   // what both sides prove to know
  LocalListener local;  // the name of a Unix socket
  Fd listener, wakeup, epoll;
  std::thread thread;
  pid_t owner = getpid();

  std::mutex mutex;  // guards what other threads leave for the server's thread
  bool stopping = false;
  std::vector<Message> messages;

  // The server's thread alone:
  StoreService service{{.send = [this](uint64_t id, std::string frame) { queue(id, frame); },
                        .on_gone = options.on_gone,
                        .on_set = options.on_set},
                       grace_of(options)};
  int epoch = -1;
  std::set<std::string> reported;  // problems, each of which is reported once
  uint64_t next_connection = 2;
  std::map<uint64_t, Connection> connections;
  std::set<uint64_t> unproven;
  std::set<uint64_t> unflushed;
  bool accepting = true;
  TimePoint accept_again = TimePoint::max();

  void start();
  void run();
  void turn();
  int timeout() const;
  void take_messages();
  void post(Message message);
  void take(const Message& message);
  void set_accepting(bool on);
  bool admit(int fd);
  RefusalReason check_client(const Hello& hello) const;
  void accept_all();
  void on_event(uint64_t id, uint32_t events);
  void read(uint64_t id);
  void advance_handshake(uint64_t id, Connection& connection);
  void serve_frames(uint64_t id, Connection& connection);
  void queue(uint64_t id, std::string_view frame);
  void flush(uint64_t id);
  void guarded(uint64_t id, void (Impl::*action)(uint64_t));
  void close(uint64_t id, std::string_view why);
  void report_drop(const Connection& connection, std::string_view why);
  void expire_handshakes();
  void watch(int fd, uint64_t tag, uint32_t events, int operation);
  void report(std::string_view text) const {
    if (options.report) options.report(text);
  }
};

StoreServer::StoreServer(StoreServerOptions options)
    : impl_(std::make_unique<Impl>(std::move(options))) {
  impl_->port = impl_->options.port;
  if (is_local(impl_->options.address)) {
    const std::string path = local_path(impl_->options.address);
    impl_->secret = local_secret(path);
    impl_->local = LocalListener(path);
    impl_->listener = impl_->local.take();
  } else {
    check_token("the server's token", impl_->options.token);
    impl_->secret = impl_->options.token;
    // A host may have IPv6 alone, on its loopback too.
    std::string& address = impl_->options.address;
    if (address == kLoopback && !has_address(kLoopback) && has_address(kLoopback6))
      address = kLoopback6;
    impl_->listener = listen_on(address, impl_->port);
  }
  impl_->start();
}

StoreServer::~StoreServer() {
  if (impl_->owner != getpid()) {  // a forked copy, which has no such thread
    impl_->thread.detach();
    return;
  }
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->stopping = true;
  }
  eventfd_write(impl_->wakeup.get(), 1);
  impl_->thread.join();
  try {
    impl_->local.remove();
  } catch (const Error& error) {
    impl_->report(error.what());
  }
}

const std::string& StoreServer::address() const noexcept { return impl_->options.address; }
int StoreServer::port() const noexcept { return impl_->port; }

void StoreServer::publish(std::string_view key, std::string_view value) {
  WEFT_CHECK(ArgumentError,
             !key.empty() && key.size() <= kMaxStoreKey && value.size() <= kMaxStoreValue,
             "store: publish: a key of {} and a value of {} bytes; allowed are 1 to {} and {}",
             key.size(), value.size(), kMaxStoreKey, kMaxStoreValue);
  impl_->post(
      {.kind = Message::Kind::publish, .key = std::string(key), .value = std::string(value)});
}

void StoreServer::delete_prefix(std::string_view prefix) {
  WEFT_CHECK(ArgumentError, !prefix.empty(), "store: delete_prefix: the prefix is empty");
  impl_->post({.kind = Message::Kind::delete_prefix, .key = std::string(prefix)});
}

void StoreServer::set_epoch(int epoch) {
  WEFT_CHECK(ArgumentError, epoch >= 0, "store: epoch {}; attempts count from 0", epoch);
  impl_->post({.kind = Message::Kind::set_epoch, .epoch = epoch});
}

void StoreServer::Impl::post(Message message) {
  {
    const std::lock_guard lock(mutex);
    messages.push_back(std::move(message));
  }
  eventfd_write(wakeup.get(), 1);
}

void StoreServer::Impl::watch(int fd, uint64_t tag, uint32_t events, int operation) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = tag;
  if (epoll_ctl(epoll.get(), operation, fd, &event) != 0)
    fail<IoError>("store: epoll_ctl: {}", std::strerror(errno));
}

void StoreServer::Impl::start() {
  wakeup = Fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  epoll = Fd(epoll_create1(EPOLL_CLOEXEC));
  if (!wakeup || !epoll) fail<IoError>("store: eventfd or epoll: {}", std::strerror(errno));
  watch(listener.get(), kListener, EPOLLIN, EPOLL_CTL_ADD);
  watch(wakeup.get(), kWakeup, EPOLLIN, EPOLL_CTL_ADD);
  // Signals belong to the threads of the program that hosts the server.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread = std::thread([this] { run(); });
  pthread_setname_np(thread.native_handle(), "weft-store");
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void StoreServer::Impl::run() {
  for (;;) {
    try {
      {
        const std::lock_guard lock(mutex);
        if (stopping) return;
      }
      turn();
    } catch (const std::exception& error) {
      // Out of memory in the midst of a turn; what the turn was about is lost, the server is not.
      report(error.what());
    }
  }
}

int StoreServer::Impl::timeout() const {
  if (!unflushed.empty()) return 0;
  TimePoint next = accept_again;
  if (const auto deadline = service.next_deadline()) next = std::min(next, *deadline);
  for (const uint64_t id : unproven) next = std::min(next, connections.at(id).deadline);
  return next == TimePoint::max() ? -1 : poll_timeout(next);
}

void StoreServer::Impl::turn() {
  epoll_event events[64];
  const int count = epoll_wait(epoll.get(), events, 64, timeout());
  if (count < 0 && errno != EINTR) fail<IoError>("store: epoll_wait: {}", std::strerror(errno));
  for (int i = 0; i < count; ++i) on_event(events[i].data.u64, events[i].events);
  const TimePoint now = Clock::now();
  service.expire(now);
  expire_handshakes();
  if (now >= accept_again) set_accepting(true);
  const auto ready = std::exchange(unflushed, {});
  for (const uint64_t id : ready) guarded(id, &Impl::flush);
}

void StoreServer::Impl::on_event(uint64_t id, uint32_t events) {
  if (id == kListener) return accept_all();
  if (id == kWakeup) return take_messages();
  if (events & EPOLLOUT) guarded(id, &Impl::flush);
  if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) guarded(id, &Impl::read);
}

/// Does what a connection is due, if it still exists; an exception (out of memory) costs this
/// connection alone.
void StoreServer::Impl::guarded(uint64_t id, void (Impl::*action)(uint64_t)) {
  if (!connections.contains(id)) return;
  try {
    (this->*action)(id);
  } catch (const std::exception& error) {
    close(id, error.what());
  }
}

void StoreServer::Impl::take_messages() {
  eventfd_t count = 0;
  eventfd_read(wakeup.get(), &count);
  std::vector<Message> taken;
  {
    const std::lock_guard lock(mutex);
    taken.swap(messages);
  }
  for (const Message& message : taken) {
    try {
      take(message);
    } catch (const std::exception& error) {  // the store is full
      report(error.what());
    }
  }
}

void StoreServer::Impl::take(const Message& message) {
  switch (message.kind) {
    case Message::Kind::publish: return service.publish(message.key, message.value);
    case Message::Kind::delete_prefix: return service.delete_prefix(message.key);
    case Message::Kind::set_epoch: break;
  }
  epoch = std::max(epoch, message.epoch);
  for (const uint64_t id : service.end_epochs_below(epoch)) close(id, "");
}

void StoreServer::Impl::set_accepting(bool on) {
  accept_again = TimePoint::max();
  if (accepting == on) return;
  accepting = on;
  watch(listener.get(), kListener, on ? EPOLLIN : 0u, EPOLL_CTL_MOD);
}

/// Sets up a new connection; false where its user is another one.
bool StoreServer::Impl::admit(int fd) {
  if (!is_local(options.address)) {
    set_tcp_options(fd);
    return true;
  }
  const std::string refusal = refuse_peer(fd);
  if (!refusal.empty())
    report(fmt::format("store: refused a connection to {}: {}", options.address, refusal));
  return refusal.empty();
}

void StoreServer::Impl::accept_all() {
  while (unproven.size() < kMaxUnproven) {
    Fd fd(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd) {
      if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR || errno == ECONNABORTED)
        return;
      report(fmt::format("store: accept: {}", std::strerror(errno)));
      set_accepting(false);
      accept_again = deadline_after(kAcceptPause);
      return;
    }
    if (!admit(fd.get())) continue;
    const uint64_t id = next_connection++;
    watch(fd.get(), id, EPOLLIN, EPOLL_CTL_ADD);
    Connection& connection = connections[id];
    connection.peer = is_local(options.address) ? options.address.substr(kLocalScheme.size())
                                                : peer_name(fd.get());
    connection.fd = std::move(fd);
    connection.deadline = deadline_after(options.handshake_timeout);
    connection.handshake = std::make_unique<ServerHandshake>(
        secret, !is_local(options.address),
        [this](const Hello& hello) { return check_client(hello); });
    unproven.insert(id);
  }
  set_accepting(false);  // the rest waits until a handshake ends
}

void StoreServer::Impl::read(uint64_t id) {
  Connection& connection = connections.at(id);
  const IoResult result = receive_some(connection.fd.get(), connection.in, Clock::now());
  if (result == IoResult::closed) return close(id, "");
  if (connection.handshake) advance_handshake(id, connection);
  // A failed handshake may have closed it.
  if (const auto still = connections.find(id); still != connections.end())
    if (!still->second.handshake) serve_frames(id, still->second);
}

/// Whether a client that knows the secret belongs here.
RefusalReason StoreServer::Impl::check_client(const Hello& hello) const {
  const std::string none = job_digest("");
  const std::string own = job_digest(options.job_id);
  if (hello.job != none && own != none && hello.job != own)
    return {.code = Refusal::other_job, .epoch = epoch};
  if (hello.epoch >= 0 && hello.epoch < epoch) return {.code = Refusal::old_epoch, .epoch = epoch};
  if (hello.returning && !service.knows(hello.client_id))
    return {.code = Refusal::unknown_client, .epoch = epoch};
  return {};
}

void StoreServer::Impl::advance_handshake(uint64_t id, Connection& connection) {
  if (connection.ending) return;
  ServerHandshake& handshake = *connection.handshake;
  const auto state = handshake.advance(connection.in, connection.out);
  const Hello& hello = handshake.hello();
  if (hello.rank >= 0 && state != ServerHandshake::State::open && !connection.peer.ends_with(')'))
    connection.peer += fmt::format(" (rank {})", hello.rank);
  if (!connection.out.empty()) unflushed.insert(id);
  if (state == ServerHandshake::State::failed) {
    if (connection.out.empty()) return close(id, handshake.problem());
    report_drop(connection, handshake.problem());
    connection.ending = true;  // its refusal has to be sent
    return;
  }
  if (state != ServerHandshake::State::open) return;
  connection.channel = handshake.make_channel();
  service.connected(
      id,
      {.id = hello.client_id, .peer = connection.peer, .rank = hello.rank, .epoch = hello.epoch},
      Clock::now());
  connection.handshake.reset();
  unproven.erase(id);
  set_accepting(true);
}

void StoreServer::Impl::serve_frames(uint64_t id, Connection& connection) {
  const TimePoint now = Clock::now();
  const std::string_view bytes = connection.in;
  size_t done = 0;
  // A client that asks faster than it reads waits; flush() comes back to the rest.
  while (connection.out.size() - connection.sent <= kMaxUnsent) {
    Frame frame;
    size_t size = 0;
    const ParseState state = connection.channel.open(bytes.substr(done), frame, size);
    if (state == ParseState::incomplete) break;
    if (state == ParseState::forged)
      return close(id, "it sent a frame that was changed, repeated or out of order");
    const auto request =
        state == ParseState::complete ? parse_request(frame) : std::optional<Request>();
    if (!request) return close(id, "it sent a malformed frame");
    done += size;
    service.handle(id, *request, now);
  }
  connection.in.erase(0, done);
  if (connection.in.empty()) std::string().swap(connection.in);
}

void StoreServer::Impl::queue(uint64_t id, std::string_view frame) {
  const auto found = connections.find(id);
  if (found == connections.end()) return;
  found->second.channel.seal(found->second.out, frame);
  unflushed.insert(id);
}

void StoreServer::Impl::flush(uint64_t id) {
  Connection& connection = connections.at(id);
  while (connection.sent < connection.out.size()) {
    const ssize_t sent =
        ::send(connection.fd.get(), connection.out.data() + connection.sent,
               connection.out.size() - connection.sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) {
      connection.sent += static_cast<size_t>(sent);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      break;
    } else if (errno != EINTR) {
      return close(id, "");
    }
  }
  const size_t left = connection.out.size() - connection.sent;
  if (left == 0) {
    if (connection.ending) return close(id, "");
    std::string().swap(connection.out);
    connection.sent = 0;
  }
  const uint32_t interest =
      (left > 0 ? uint32_t{EPOLLOUT} : 0u) | (left <= kMaxUnsent ? uint32_t{EPOLLIN} : 0u);
  if (interest != connection.interest) {
    watch(connection.fd.get(), id, interest, EPOLL_CTL_MOD);
    connection.interest = interest;
  }
  if (!connection.handshake && !connection.in.empty() && left <= kMaxUnsent)
    serve_frames(id, connection);
}

void StoreServer::Impl::close(uint64_t id, std::string_view why) {
  const auto found = connections.find(id);
  if (!why.empty()) report_drop(found->second, why);
  service.disconnected(id, Clock::now());
  unproven.erase(id);
  connections.erase(found);
  set_accepting(true);
}

/// A peer that comes back and fails again in the same way is reported once.
void StoreServer::Impl::report_drop(const Connection& connection, std::string_view why) {
  const std::string& peer = connection.peer;
  const size_t colon = peer.rfind(':'), rank = peer.find(" (");
  std::string who = peer.substr(0, colon);
  if (rank != std::string::npos) who += peer.substr(rank);
  if (reported.size() >= kMaxReported || !reported.insert(who.append(why)).second) return;
  report(fmt::format("store: dropped the connection from {}: {}", peer, why));
}

void StoreServer::Impl::expire_handshakes() {
  const TimePoint now = Clock::now();
  std::vector<uint64_t> late;
  for (const uint64_t id : unproven)
    if (connections.at(id).deadline <= now) late.push_back(id);
  for (const uint64_t id : late) close(id, "it did not finish the handshake in time");
}

}  // namespace weft::inline v0::dist
