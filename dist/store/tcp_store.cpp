#include <weft/dist/store/tcp_store.hpp>

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <condition_variable>
#include <map>
#include <mutex>
#include <utility>

#include <weft/core/base/check.hpp>
#include <weft/dist/store/auth.hpp>
#include <weft/dist/store/bytes.hpp>
#include <weft/dist/store/frame.hpp>
#include <weft/dist/store/local_socket.hpp>
#include <weft/dist/store/socket.hpp>
#include <weft/dist/store/table.hpp>

namespace weft::inline v0::dist {

using namespace detail;
using weft::detail::fail;

namespace {

constexpr double kHandshakeTimeout = 5.0;  // seconds
constexpr double kReconnectTimeout = 2.0;  // seconds that a lost server is looked for
constexpr double kServerSlack = 1.0;       // seconds past a deadline that the server may answer in
constexpr double kFirstRetry = 0.01, kLongestRetry = 0.25;  // seconds between attempts
constexpr double kLongestLocalRetry = 0.02;                 // an attempt costs no packet

/// One established connection. It is closed when its last user lets go of it, so that no thread
/// ever uses a descriptor that another one has closed.
struct Link {
  Fd fd;
  std::string in;  // received, not yet parsed; of the thread that reads
  std::timed_mutex sending;
};

struct Reply {
  bool done = false;
  FrameKind kind = FrameKind::value;
  std::string body;
};

}  // namespace

// Note [Sharing a connection]
// Calls from several threads share one connection. Each registers its request under its id and
// sends it; then one of the waiting callers (the one that finds `busy` false) reads from the socket
// for all, hands each reply to its owner and, once it has its own or its time is up, passes the
// reading on by notifying the others. No thread of our own is needed, and a long wait of one caller
// (a watch for a lost peer) holds up nobody.
struct TcpStore::Impl {
  TcpStoreOptions options;
  std::string path;    // of a Unix socket
  std::string secret;  // what both sides prove to know
  std::string client_id = random_bytes(kClientIdSize);

  std::mutex mutex;
  std::condition_variable changed;
  bool busy = false;  // a caller reads or connects, for all
  std::shared_ptr<Link> link;
  uint64_t next_id = 1;
  std::map<uint64_t, Reply*> waiting;

  std::string endpoint() const {
    return path.empty() ? endpoint_name(options.host, options.port) : path;
  }

  std::shared_ptr<Link> connect(double timeout);
  std::shared_ptr<Link> handshake(Fd fd, TimePoint deadline);
  Reply call(Request request, const char* name, double timeout);
  void exchange(std::unique_lock<std::mutex>& lock, const std::string& frame, Reply& reply,
                TimePoint deadline);
  std::shared_ptr<Link> current(std::unique_lock<std::mutex>& lock, TimePoint deadline);
  void read_once(std::unique_lock<std::mutex>& lock, const std::shared_ptr<Link>& from,
                 TimePoint deadline);
  bool deliver(Link& from);
};

TcpStore::TcpStore(TcpStoreOptions options)
    : Store(options.timeout), impl_(std::make_unique<Impl>()) {
  const TcpStoreOptions& own = impl_->options = std::move(options);
  if (is_local(own.host)) {
    impl_->path = local_path(own.host);
    impl_->secret = local_secret(impl_->path);
  } else {
    check_token("the token", own.token);
    impl_->secret = own.token;
    WEFT_CHECK(ArgumentError, own.port > 0 && own.port < 65536,
               "store: port {} of the host '{}'; a port is a number from 1 to 65535", own.port,
               own.host);
  }
  impl_->link = impl_->connect(impl_->options.timeout);
}

TcpStore::~TcpStore() = default;

/// Connects, trying again while nobody listens. Called without the lock.
std::shared_ptr<Link> TcpStore::Impl::connect(double timeout) {
  const TimePoint start = Clock::now();
  const TimePoint deadline = deadline_after(timeout);
  std::string error = "the connection closed before the handshake";
  double pause = kFirstRetry;
  for (;;) {
    Fd fd = path.empty() ? connect_to(options.host, options.port, deadline, error)
                         : connect_to_path(path, deadline, error);
    if (fd) return handshake(std::move(fd), std::min(deadline, deadline_after(kHandshakeTimeout)));
    if (Clock::now() + to_duration(pause) >= deadline)
      fail<TimeoutError>(
          "store: no connection to {} within {:.3g} s: {}; is the launcher, or the "
          "process of rank 0, still running?",
          endpoint(), seconds_since(start), error);
    ::poll(nullptr, 0, std::max(1, static_cast<int>(pause * 1e3)));
    pause = std::min(2 * pause, path.empty() ? kLongestRetry : kLongestLocalRetry);
  }
}

std::shared_ptr<Link> TcpStore::Impl::handshake(Fd fd, TimePoint deadline) {
  const std::string hello = make_hello(secret, {options.rank, client_id});
  std::string challenge;
  IoResult result = send_all(fd.get(), hello, deadline);
  if (result == IoResult::done)
    result = receive_exactly(fd.get(), kChallengeSize, challenge, deadline);
  if (result == IoResult::timed_out)
    fail<TimeoutError>("store: {} did not answer the handshake in time", endpoint());
  if (result == IoResult::closed)
    fail<CommError>("store: {} refused the handshake; {}", endpoint(),
                    path.empty() ? "WEFT_TOKEN is not that of the job which listens there"
                                 : "another program listens there");
  if (!check_challenge(secret, hello, challenge))
    fail<CommError>("store: {} does not know the job's token; another program listens there",
                    endpoint());
  if (send_all(fd.get(), make_proof(secret, hello, challenge), deadline) != IoResult::done)
    fail<CommError>("store: {} closed the connection during the handshake", endpoint());
  auto made = std::make_shared<Link>();
  made->fd = std::move(fd);
  return made;
}

/// The connection, made again by this caller where it is lost; nothing where another caller did so
/// or is about to.
std::shared_ptr<Link> TcpStore::Impl::current(std::unique_lock<std::mutex>& lock,
                                              TimePoint deadline) {
  if (link) return link;
  if (busy) {
    changed.wait_until(lock, deadline);
    return nullptr;
  }
  busy = true;
  lock.unlock();
  std::shared_ptr<Link> made;
  const double left = std::chrono::duration<double>(deadline - Clock::now()).count();
  const auto finish = [&] {
    lock.lock();
    busy = false;
    changed.notify_all();
  };
  try {
    made = connect(std::clamp(left, 0.0, kReconnectTimeout));
  } catch (const Error& error) {
    finish();
    fail<CommError>("store: the connection to {} was lost: {}", endpoint(), error.what());
  }
  finish();
  link = made;
  return made;
}

/// Hands the replies in `from.in` to their callers; false where the bytes are no replies.
bool TcpStore::Impl::deliver(Link& from) {
  size_t done = 0;
  for (;;) {
    Frame frame;
    const ParseState state = parse_frame(std::string_view(from.in).substr(done), frame);
    if (state == ParseState::malformed) return false;
    if (state == ParseState::incomplete) break;
    done += frame.size;
    const auto owner = waiting.find(frame.id);
    if (owner == waiting.end()) continue;  // its caller has given up
    *owner->second = {true, frame.kind, std::string(frame.body)};
  }
  from.in.erase(0, done);
  return true;
}

/// Reads, for all callers, what the server has sent.
void TcpStore::Impl::read_once(std::unique_lock<std::mutex>& lock,
                               const std::shared_ptr<Link>& from, TimePoint deadline) {
  busy = true;
  lock.unlock();
  IoResult result = IoResult::closed;
  try {
    result = receive_some(from->fd.get(), from->in, deadline);
  } catch (...) {
    lock.lock();
    busy = false;
    changed.notify_all();
    throw;
  }
  lock.lock();
  busy = false;
  const bool usable = result != IoResult::closed && deliver(*from);
  if (!usable && link == from) link = nullptr;
  changed.notify_all();
}

/// Sends the frame and waits for its reply or the deadline, over as many connections as it takes.
void TcpStore::Impl::exchange(std::unique_lock<std::mutex>& lock, const std::string& frame,
                              Reply& reply, TimePoint deadline) {
  std::shared_ptr<Link> sent_on;
  while (!reply.done && Clock::now() < deadline) {
    const std::shared_ptr<Link> now = current(lock, deadline);
    if (!now) continue;
    if (sent_on != now) {
      sent_on = now;
      lock.unlock();
      IoResult result = IoResult::timed_out;
      if (now->sending.try_lock_until(deadline)) {
        result = send_all(now->fd.get(), frame, deadline);
        // Half a frame makes the connection useless; its reader will see it closed.
        if (result != IoResult::done) ::shutdown(now->fd.get(), SHUT_RDWR);
        now->sending.unlock();
      }
      lock.lock();
      continue;
    }
    if (busy)
      changed.wait_until(lock, deadline);
    else
      read_once(lock, now, deadline);
  }
}

Reply TcpStore::Impl::call(Request request, const char* name, double timeout) {
  const TimePoint start = Clock::now();
  Reply reply;
  {
    std::unique_lock lock(mutex);
    request.id = next_id++;
    waiting.emplace(request.id, &reply);
    request.acknowledged = waiting.begin()->first;
    request.timeout_us = static_cast<uint64_t>(std::min(timeout, kForever) * 1e6);
    struct Forget {
      Impl& impl;
      uint64_t id;
      ~Forget() { impl.waiting.erase(id); }  // the lock is held
    } forget{*this, request.id};
    exchange(lock, make_request(request), reply, deadline_after(timeout + kServerSlack));
  }
  if (!reply.done)
    fail<TimeoutError>("store: {} {}: no answer from {} within {:.3g} s", name,
                       list_keys(request.strings), endpoint(), seconds_since(start));
  if (reply.kind == FrameKind::argument) throw ArgumentError(reply.body);
  if (reply.kind == FrameKind::refused) throw CommError(reply.body);
  if (reply.kind == FrameKind::timeout) {
    std::vector<std::string> missing;
    Reader reader(reply.body);
    while (reader.ok() && !reader.rest().empty())
      missing.emplace_back(reader.take_bytes(reader.take<uint32_t>()));
    throw TimeoutError(timeout_text(name, missing, seconds_since(start)));
  }
  return reply;
}

void TcpStore::do_set(std::string_view key, std::string_view value, double timeout) {
  impl_->call({.kind = FrameKind::set, .strings = {std::string(key), std::string(value)}}, "set",
              timeout);
}

std::string TcpStore::do_get(std::string_view key, double timeout) {
  return impl_->call({.kind = FrameKind::get, .strings = {std::string(key)}}, "get", timeout).body;
}

void TcpStore::do_wait(const std::vector<std::string>& keys, double timeout) {
  impl_->call({.kind = FrameKind::wait, .strings = keys}, "wait", timeout);
}

bool TcpStore::do_check(const std::vector<std::string>& keys, double timeout) {
  return impl_->call({.kind = FrameKind::check, .strings = keys}, "check", timeout).body == "1";
}

int64_t TcpStore::do_add(std::string_view key, int64_t amount, double timeout) {
  const Reply reply = impl_->call(
      {.kind = FrameKind::add, .amount = amount, .strings = {std::string(key)}}, "add", timeout);
  Reader reader(reply.body);
  return reader.take<int64_t>();
}

std::string TcpStore::do_compare_set(std::string_view key, std::string_view expected,
                                     std::string_view desired, double timeout) {
  return impl_
      ->call({.kind = FrameKind::compare_set,
              .strings = {std::string(key), std::string(expected), std::string(desired)}},
             "compare_set", timeout)
      .body;
}

bool TcpStore::do_delete(std::string_view key, double timeout) {
  return impl_
             ->call({.kind = FrameKind::erase, .strings = {std::string(key)}}, "delete_key",
                    timeout)
             .body == "1";
}

}  // namespace weft::inline v0::dist
