#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <exception>
#include <map>
#include <mutex>
#include <set>
#include <thread>
#include <utility>

#include <weft/core/base/check.hpp>
#include <weft/dist/store/auth.hpp>
#include <weft/dist/store/local_socket.hpp>
#include <weft/dist/store/service.hpp>
#include <weft/dist/store/socket.hpp>
#include <weft/dist/store/tcp_store.hpp>

namespace weft::inline v0::dist {

using namespace detail;
using weft::detail::fail;

namespace {

constexpr size_t kMaxUnproven = 64;       // connections still in the handshake; more wait in line
constexpr size_t kMaxUnsent = 16u << 20;  // bytes of replies before a slow reader is left unread
constexpr double kAcceptPause = 0.2;      // seconds without descriptors before accepting again
constexpr uint64_t kListener = 0;         // epoll tags; connections count from 2
constexpr uint64_t kWakeup = 1;

enum class Phase { hello, proof, open };

struct Connection {
  Fd fd;
  Phase phase = Phase::hello;
  TimePoint deadline;  // of the handshake
  std::string peer;
  std::string hello, challenge, client;
  std::string in, out;
  size_t sent = 0;  // bytes of `out` that are gone
  uint32_t interest = EPOLLIN;
};

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
  std::vector<std::pair<std::string, std::string>> published;

  // The server's thread alone:
  StoreService service{[this](uint64_t id, std::string frame) { queue(id, std::move(frame)); }};
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
  void set_accepting(bool on);
  bool admit(int fd);
  void accept_all();
  void on_event(uint64_t id, uint32_t events);
  void read(uint64_t id);
  bool advance_handshake(uint64_t id, Connection& connection);
  void serve_frames(uint64_t id, Connection& connection);
  void queue(uint64_t id, std::string frame);
  void flush(uint64_t id);
  void guarded(uint64_t id, void (Impl::*action)(uint64_t));
  void close(uint64_t id, std::string_view why);
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
    impl_->listener = listen_on(impl_->options.address, impl_->port);
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
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->published.emplace_back(key, value);
  }
  eventfd_write(impl_->wakeup.get(), 1);
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
  std::vector<std::pair<std::string, std::string>> messages;
  {
    const std::lock_guard lock(mutex);
    messages.swap(published);
  }
  for (const auto& [key, value] : messages) service.publish(key, value);
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
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
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
    unproven.insert(id);
  }
  set_accepting(false);  // the rest waits until a handshake ends
}

void StoreServer::Impl::read(uint64_t id) {
  Connection& connection = connections.at(id);
  const IoResult result = receive_some(connection.fd.get(), connection.in, Clock::now());
  if (result == IoResult::closed) return close(id, "");
  if (connection.phase != Phase::open && !advance_handshake(id, connection)) return;
  if (connection.phase == Phase::open) serve_frames(id, connection);
}

bool StoreServer::Impl::advance_handshake(uint64_t id, Connection& connection) {
  if (connection.phase == Phase::hello && connection.in.size() >= kHelloSize) {
    connection.hello = connection.in.substr(0, kHelloSize);
    connection.in.erase(0, kHelloSize);
    const auto hello = check_hello(secret, connection.hello);
    if (!hello) {
      close(id, "it does not know the job's token");
      return false;
    }
    connection.client = hello->client_id;
    if (hello->rank >= 0) connection.peer += fmt::format(" (rank {})", hello->rank);
    connection.challenge = make_challenge(secret, connection.hello);
    connection.phase = Phase::proof;
    queue(id, connection.challenge);
  }
  if (connection.phase == Phase::proof && connection.in.size() >= kProofSize) {
    const std::string_view proof = std::string_view(connection.in).substr(0, kProofSize);
    if (!check_proof(secret, connection.hello, connection.challenge, proof)) {
      close(id, "its proof of the token is wrong");
      return false;
    }
    connection.in.erase(0, kProofSize);
    connection.phase = Phase::open;
    unproven.erase(id);
    set_accepting(true);
  }
  return true;
}

void StoreServer::Impl::serve_frames(uint64_t id, Connection& connection) {
  const TimePoint now = Clock::now();
  const std::string_view bytes = connection.in;
  size_t done = 0;
  // A client that asks faster than it reads waits; flush() comes back to the rest.
  while (connection.out.size() - connection.sent <= kMaxUnsent) {
    Frame frame;
    const ParseState state = parse_frame(bytes.substr(done), frame);
    if (state == ParseState::incomplete) break;
    const auto request =
        state == ParseState::complete ? parse_request(frame) : std::optional<Request>();
    if (!request) {
      return close(id, "it sent a malformed frame");
    }
    done += frame.size;
    service.handle(id, connection.client, *request, now);
  }
  connection.in.erase(0, done);
  if (connection.in.empty()) std::string().swap(connection.in);
}

void StoreServer::Impl::queue(uint64_t id, std::string frame) {
  connections.at(id).out += frame;
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
    std::string().swap(connection.out);
    connection.sent = 0;
  }
  const uint32_t interest =
      (left > 0 ? uint32_t{EPOLLOUT} : 0u) | (left <= kMaxUnsent ? uint32_t{EPOLLIN} : 0u);
  if (interest != connection.interest) {
    watch(connection.fd.get(), id, interest, EPOLL_CTL_MOD);
    connection.interest = interest;
  }
  if (connection.phase == Phase::open && !connection.in.empty() && left <= kMaxUnsent)
    serve_frames(id, connection);
}

void StoreServer::Impl::close(uint64_t id, std::string_view why) {
  const auto found = connections.find(id);
  if (!why.empty())
    report(fmt::format("store: dropped the connection from {}: {}", found->second.peer, why));
  service.forget(id);
  unproven.erase(id);
  connections.erase(found);
  set_accepting(true);
}

void StoreServer::Impl::expire_handshakes() {
  const TimePoint now = Clock::now();
  std::vector<uint64_t> late;
  for (const uint64_t id : unproven)
    if (connections.at(id).deadline <= now) late.push_back(id);
  for (const uint64_t id : late) close(id, "it did not finish the handshake in time");
}

}  // namespace weft::inline v0::dist
