#include <weft/dist/store/client.hpp>

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include <weft/core/base/check.hpp>
#include <weft/dist/store/local_socket.hpp>
#include <weft/dist/store/table.hpp>

namespace weft::inline v0::dist::detail {

using weft::detail::fail;

namespace {

constexpr double kHandshakeTimeout = 5.0;  // seconds
constexpr double kReconnectTimeout = 2.0;  // seconds that a lost server may not listen
constexpr double kReturnTimeout = 10.0;    // seconds that one which listens may take to answer
constexpr double kFirstRetry = 0.01, kLongestRetry = 0.25;  // seconds between attempts
constexpr double kLongestLocalRetry = 0.02;                 // an attempt costs no packet

}  // namespace

/// One established connection. It is closed when its last user lets go of it, so that no thread
/// ever uses a descriptor that another one has closed.
struct StoreClient::Link {
  Fd fd;
  uint64_t number = 0;
  FrameChannel channel;  // its halves are of those who send, one by one, and of the one who reads
  std::string in;        // received, not yet parsed; of the thread that reads
  bool sending = false;  // guarded by the client's mutex: somebody sends
};

StoreClient::StoreClient(TcpStoreOptions options) : options_(std::move(options)) {
  if (is_local(options_.host)) {
    path_ = local_path(options_.host);
    secret_ = local_secret(path_);
  } else {
    check_token("the token", options_.token);
    secret_ = options_.token;
    WEFT_CHECK(ArgumentError, options_.port > 0 && options_.port < 65536,
               "store: port {} of the host '{}'; a port is a number from 1 to 65535", options_.port,
               options_.host);
  }
  wakeup_ = Fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wakeup_) fail<IoError>("store: eventfd: {}", std::strerror(errno));
  link_ = connect(options_.timeout, options_.timeout);
}

StoreClient::~StoreClient() = default;

std::string StoreClient::endpoint() const {
  return path_.empty() ? endpoint_name(options_.host, options_.port) : path_;
}

double StoreClient::seconds_since_contact() const {
  return seconds_since(TimePoint(Clock::duration(contact_.load())));
}

void StoreClient::close() noexcept {
  closed_ = true;
  eventfd_write(wakeup_.get(), 1);
  // The lock orders this after a caller's look at closed_ and before its wait.
  const std::lock_guard lock(mutex_);
  changed_.notify_all();
}

/// Connects, trying again while nobody listens, for `absent` seconds, or while somebody listens who
/// does not answer (a server that a thousand clients ask at once), for `timeout` seconds. Called
/// without the lock, by one thread.
std::shared_ptr<StoreClient::Link> StoreClient::connect(double absent, double timeout) {
  const TimePoint start = Clock::now();
  const TimePoint deadline = deadline_after(timeout);
  TimePoint next_deadline = std::min(deadline, deadline_after(absent));
  std::string error = "the connection closed before the handshake";
  double pause = kFirstRetry;
  while (!closed_) {
    Fd fd = path_.empty() ? connect_to(options_.host, options_.port, next_deadline, error)
                          : connect_to_path(path_, next_deadline, error);
    if (fd) {
      const TimePoint limit = std::min(deadline, deadline_after(kHandshakeTimeout));
      if (auto made = handshake(std::move(fd), limit)) return made;
      error = "it did not answer the handshake in time";
      next_deadline = deadline;
    }
    note_attempt(error == std::strerror(ECONNREFUSED));
    if (Clock::now() + to_duration(pause) >= next_deadline)
      fail<TimeoutError>(
          "store: no connection to {} within {:.3g} s: {}; is the launcher, or the process of rank "
          "0, still running?",
          endpoint(), seconds_since(start), error);
    pollfd woken{wakeup_.get(), POLLIN, 0};
    ::poll(&woken, 1, std::max(1, static_cast<int>(pause * 1e3)));
    pause = std::min(2 * pause, path_.empty() ? kLongestRetry : kLongestLocalRetry);
  }
  fail<CommError>("store: this connection to {} is closed", endpoint());
}

/// A network that is cut answers nothing; a host that refuses is there, and its server is not.
/// Where it goes on refusing after it had answered once, the process has ended for good: its keys
/// with it.
void StoreClient::note_attempt(bool nobody_listens) {
  if (links_ == 0 || !nobody_listens) {
    nobody_since_.reset();
    return;
  }
  if (!nobody_since_) nobody_since_ = Clock::now();
  if (seconds_since(*nobody_since_) >= 0.75 * kReconnectTimeout) refused_ = true;
}

/// Nothing where the server does not answer in time.
std::shared_ptr<StoreClient::Link> StoreClient::handshake(Fd fd, TimePoint deadline) {
  const std::string hello = make_hello(secret_, {.rank = options_.rank,
                                                 .epoch = options_.epoch,
                                                 .client_id = client_id_,
                                                 .job = job_digest(options_.job_id),
                                                 .returning = answered_});
  std::string challenge;
  IoResult result = send_all(fd.get(), hello, deadline);
  if (result == IoResult::done)
    result = receive_exactly(fd.get(), kChallengeSize, challenge, deadline);
  if (result == IoResult::timed_out) return nullptr;
  if (result == IoResult::closed) {
    WEFT_CHECK(CommError, !path_.empty(),
               "store: {} refused the handshake; WEFT_TOKEN is not that of the job which listens "
               "there, or that job runs another version of weft",
               endpoint());
    fail<CommError>("store: {} refused the handshake; another version of weft listens there",
                    endpoint());
  }
  if (const auto reason = check_refusal(secret_, hello, challenge)) fail_refused(*reason);
  if (!check_challenge(secret_, hello, challenge))
    fail<CommError>("store: {} does not know the job's token; another program listens there",
                    endpoint());
  if (send_all(fd.get(), make_proof(secret_, hello, challenge), deadline) != IoResult::done)
    fail<CommError>("store: {} closed the connection during the handshake", endpoint());
  auto made = std::make_shared<Link>();
  made->fd = std::move(fd);
  made->number = ++links_;
  nobody_since_.reset();
  refused_ = false;
  if (path_.empty()) {
    const SessionKeys keys = derive_keys(secret_, hello, challenge);
    made->channel = FrameChannel(keys.client, keys.server);
  }
  note_contact();
  return made;
}

void StoreClient::fail_refused(RefusalReason reason) {
  refused_ = true;
  switch (reason.code) {
    case Refusal::other_job:
      fail<CommError>("store: {} serves another job than '{}'; check WEFT_JOB_ID and the address",
                      endpoint(), options_.job_id);
    case Refusal::old_epoch:
      fail<CommError>(
          "store: {} serves attempt {} of the job, this process belongs to attempt {}, which is "
          "over",
          endpoint(), reason.epoch, options_.epoch);
    default:
      fail<CommError>(
          "store: {} does not know this process any more: another server, without the keys of the "
          "first, listens there, or the connection was lost for too long",
          endpoint());
  }
}

/// The connection, made again by this caller where it is lost; nothing where another caller did so
/// or is about to.
std::shared_ptr<StoreClient::Link> StoreClient::current(std::unique_lock<std::mutex>& lock,
                                                        uint64_t failures, TimePoint deadline) {
  if (link_) return link_;
  // Others who waited for the same attempt do not each make one of their own.
  // Nor does anybody go on asking a server that has ended.
  if (failures_ > failures || (refused_ && failures_ > 0)) throw CommError(lost_);
  if (busy_) {
    changed_.wait_until(lock, deadline);
    return nullptr;
  }
  busy_ = true;
  lock.unlock();
  std::shared_ptr<Link> made;
  const double left = std::chrono::duration<double>(deadline - Clock::now()).count();
  const auto finish = [&] {
    lock.lock();
    busy_ = false;
    changed_.notify_all();
  };
  try {
    made = connect(std::clamp(left, 0.0, kReconnectTimeout), std::clamp(left, 0.0, kReturnTimeout));
  } catch (const Error& error) {
    finish();
    ++failures_;
    lost_ = fmt::format("store: the connection to {} was lost: {}", endpoint(), error.what());
    throw CommError(lost_);
  }
  finish();
  link_ = made;
  return made;
}

/// Hands the replies in `from.in` to their callers; false where the bytes are no replies.
bool StoreClient::deliver(Link& from) {
  size_t done = 0;
  for (;;) {
    Frame frame;
    size_t size = 0;
    const ParseState state = from.channel.open(std::string_view(from.in).substr(done), frame, size);
    if (state == ParseState::incomplete) break;
    if (state != ParseState::complete) return false;
    done += size;
    calls_.deliver(frame);
    answered_ = true;
    note_contact();
  }
  from.in.erase(0, done);
  return true;
}

/// Reads, for all callers, what the server has sent.
void StoreClient::read_once(std::unique_lock<std::mutex>& lock, const std::shared_ptr<Link>& from,
                            TimePoint deadline) {
  busy_ = true;
  lock.unlock();
  IoResult result = IoResult::closed;
  try {
    result = receive_some(from->fd.get(), from->in, deadline, wakeup_.get());
  } catch (...) {
    lock.lock();
    busy_ = false;
    changed_.notify_all();
    throw;
  }
  lock.lock();
  busy_ = false;
  const bool usable = result != IoResult::closed && deliver(*from);
  if (!usable && link_ == from) link_ = nullptr;
  changed_.notify_all();
}

void StoreClient::send(std::unique_lock<std::mutex>& lock, Link& link, std::string frame,
                       TimePoint deadline) {
  while (link.sending)
    if (changed_.wait_until(lock, deadline) == std::cv_status::timeout) return;
  link.sending = true;
  lock.unlock();
  IoResult result = IoResult::closed;
  try {
    std::string bytes;
    link.channel.seal(bytes, frame);
    result = send_all(link.fd.get(), bytes, deadline);
  } catch (const std::exception&) {
    // Out of memory: the connection ends below, as one does that took half a frame.
    result = IoResult::closed;
  }
  // Its reader will see it closed.
  if (result != IoResult::done) ::shutdown(link.fd.get(), SHUT_RDWR);
  lock.lock();
  link.sending = false;
  changed_.notify_all();
}

// Note [Sharing a connection]
// Calls from several threads share one connection. Each registers its request under its id and
// sends it; then one of the waiting callers (the one that finds `busy_` false) reads from the
// socket for all, hands each reply to its owner and, once it has its own or its time is up, passes
// the reading on by notifying the others. No thread of our own is needed, and a long wait of one
// caller (a watch for a lost peer) holds up nobody.

/// Sends the call and waits for its reply or the deadline, over as many connections as it takes.
void StoreClient::exchange(std::unique_lock<std::mutex>& lock, uint64_t id, TimePoint deadline) {
  const uint64_t failures = failures_;
  while (!calls_.answered(id) && Clock::now() < deadline) {
    WEFT_CHECK(CommError, !closed_, "store: this connection to {} is closed", endpoint());
    const std::shared_ptr<Link> now = current(lock, failures, deadline);
    if (!now) continue;
    if (const auto frame = calls_.to_send(id, now->number))
      send(lock, *now, std::string(*frame), deadline);
    else if (busy_)
      changed_.wait_until(lock, deadline);
    else
      read_once(lock, now, deadline);
  }
}

std::string StoreClient::call(Request request, const char* name, double limit) {
  const TimePoint start = Clock::now();
  const std::vector<std::string> keys = request.strings;
  std::optional<StoreCalls::Reply> reply;
  {
    std::unique_lock lock(mutex_);
    const uint64_t id = calls_.begin(std::move(request));
    try {
      exchange(lock, id, start + to_duration(limit));
    } catch (...) {
      if (!lock.owns_lock()) lock.lock();
      calls_.end(id);
      throw;
    }
    reply = calls_.end(id);
    if (!reply && link_) {
      // The server watches the request's time itself and should have answered: the way to it may be
      // cut without a sign. What others wait for is asked again on a new connection.
      ::shutdown(link_->fd.get(), SHUT_RDWR);
      link_ = nullptr;
    }
  }
  if (!reply)
    fail<TimeoutError>("store: {} {}: no answer from {} within {:.3g} s", name, list_keys(keys),
                       endpoint(), seconds_since(start));
  return take_result(*std::move(reply), name, seconds_since(start));
}

std::string StoreClient::timed_call(Request request, const char* name, double timeout) {
  request.timeout_us = static_cast<uint64_t>(std::min(timeout, kForever) * 1e6);
  return call(std::move(request), name, timeout + kServerSlack);
}

}  // namespace weft::inline v0::dist::detail
