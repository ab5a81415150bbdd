#include <weft/launcher/node_link.hpp>

#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include <weft/core/base/check.hpp>
#include <weft/dist/store/direct.hpp>

namespace weft::inline v0::launcher {

using dist::detail::Clock;
using dist::detail::deadline_after;
using dist::detail::seconds_since;
using dist::detail::TimePoint;

namespace {

constexpr double kAttempt = 1;      // seconds for one attempt to connect
constexpr double kUnanswered = 10;  // seconds without a connection before it is said
constexpr double kSendTimeout = 5;  // seconds
// A link that is away for 5 s must not end the job: by then the last sign of life may be an
// interval older, and the next comes with a new connection.
constexpr double kInterval = 1;        // seconds between signs of life
constexpr double kSilence = 8;         // seconds after which the line counts as cut
constexpr double kLongWait = 3600;     // seconds
constexpr double kCloseTimeout = 0.5;  // seconds

std::string close_key(const std::string& id) { return "launch/close/" + id; }

std::thread start_thread(std::function<void()> body) {
  // Signals belong to the main thread.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread thread(std::move(body));
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return thread;
}

/// Looks for node 0's launcher until the join timeout; nothing where this is being closed.
std::shared_ptr<dist::TcpStore> connect_link(const NodeLinkOptions& options,
                                             const std::function<bool()>& closing,
                                             const std::function<void(int)>& on_port,
                                             const std::function<void(std::string)>& on_wait) {
  const TimePoint start = Clock::now(), deadline = deadline_after(options.join_timeout);
  bool told = false;
  while (!closing()) {
    dist::TcpStoreOptions store{.host = options.host, .token = options.token, .timeout = kAttempt};
    try {
      store.port = options.ports.size() == 1 ? options.ports.front()
                                             : dist::detail::find_port(store, options.ports);
      auto made = std::make_shared<dist::TcpStore>(store);
      on_port(store.port);
      return made;
    } catch (const TimeoutError& error) {
      if (Clock::now() >= deadline)
        throw TimeoutError(fmt::format("no launcher of node 0 within {:g} s: {}",
                                       options.join_timeout, error.what()));
    }
    if (!told && seconds_since(start) >= kUnanswered) {
      told = true;
      on_wait(fmt::format("no answer from {} yet; is the launcher of node 0 running there?",
                          dist::detail::endpoint_name(options.host, options.ports.front())));
    }
  }
  return nullptr;
}

}  // namespace

NodeLink::NodeLink(NodeLinkOptions options)
    : options_(std::move(options)), wakeup_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!wakeup_) weft::detail::fail<IoError>("launcher: eventfd: {}", std::strerror(errno));
  receiver_ = start_thread([this] { receive(); });
  sender_ = start_thread([this] { transmit(); });
}

NodeLink::~NodeLink() {
  std::shared_ptr<dist::TcpStore> store;
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
    store = lost_ || over_ ? nullptr : store_;
  }
  changed_.notify_all();
  try {
    if (store) store->set(close_key(id()), "", kCloseTimeout);  // lets the receiver go
  } catch (const Error& error) {
    lose(error.what());  // the receiver learns the same by itself
  }
  receiver_.join();
  sender_.join();
}

bool NodeLink::closing() const {
  const std::lock_guard lock(mutex_);
  return closing_;
}

int NodeLink::port() const {
  const std::lock_guard lock(mutex_);
  return port_;
}

bool NodeLink::established() const {
  const std::lock_guard lock(mutex_);
  return store_ != nullptr && !lost_;
}

void NodeLink::post(LinkEvent event) {
  {
    const std::lock_guard lock(mutex_);
    events_.push_back(std::move(event));
  }
  eventfd_write(wakeup_.get(), 1);
}

void NodeLink::lose(const std::string& why) {
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(lost_, true) || closing_ || over_) return;
  }
  changed_.notify_all();
  post({.kind = LinkEvent::Kind::lost, .text = why});
}

std::optional<LinkEvent> NodeLink::take() {
  const std::lock_guard lock(mutex_);
  if (events_.empty()) return std::nullopt;
  LinkEvent event = std::move(events_.front());
  events_.pop_front();
  if (events_.empty()) {
    eventfd_t count = 0;
    eventfd_read(wakeup_.get(), &count);
  }
  return event;
}

void NodeLink::receive() {
  try {
    const auto store = connect_link(
        options_, [this] { return closing(); },
        [this](int port) {
          const std::lock_guard lock(mutex_);
          port_ = port;
        },
        [this](std::string text) {
          post({.kind = LinkEvent::Kind::notice, .text = std::move(text)});
        });
    if (!store) return;
    store->join(member_name(id()),
                {.interval = kInterval,
                 .limit = kSilence,
                 .detail = options_.hello.host,
                 .on_lost = [this](std::string_view why) { lose(std::string(why)); }},
                kSendTimeout);
    store->set(key_from(id(), 0), pack(to_fields(options_.hello)), kSendTimeout);
    {
      const std::lock_guard lock(mutex_);
      store_ = store;
    }
    changed_.notify_all();
    for (uint64_t next = 0; !closing();) {
      try {
        const std::string key = key_to(id(), next);
        if (store->wait_any({key, close_key(id())}, kLongWait) != 0) break;
        ++next;
        if (!on_message(store->get(key, kSendTimeout))) return;
        store->delete_key(key, kSendTimeout);
      } catch (const CommError&) {
        // A broken line is made again by the store, within its own limits.
        if (store->seconds_since_contact() >= kSilence) throw;
        const std::lock_guard lock(mutex_);
        if (lost_) break;
      }
    }
    if (closing()) store->delete_key(close_key(id()), kCloseTimeout);
  } catch (const Error& error) {
    lose(error.what());
  }
}

/// Whether more may come: after the end node 0 need not be there any more.
bool NodeLink::on_message(const std::string& value) {
  const auto fields = unpack(value);
  if (!fields || fields->empty()) throw Error("node 0 sent a message that makes no sense");
  const Fields& f = *fields;
  LinkEvent event;
  if (f[0] == "refuse" && f.size() == 2) {
    event = {.kind = LinkEvent::Kind::refused, .text = f[1]};
  } else if (f[0] == "notice" && f.size() == 2) {
    event = {.kind = LinkEvent::Kind::notice, .text = "waiting for all hosts; " + f[1]};
  } else if (f[0] == "signal" && f.size() == 2 && to_int(f[1])) {
    event.kind = LinkEvent::Kind::signal;
    event.signal = *to_int(f[1]);
  } else if (f[0] == "stop" && f.size() == 5 && to_int(f[4])) {
    event.kind = LinkEvent::Kind::stop;
    event.cause = {.text = f[1], .id = f[2], .host = f[3], .code = *to_int(f[4])};
  } else if (f[0] == "finish" && f.size() >= 3 && to_int(f[2])) {
    event.kind = LinkEvent::Kind::finish;
    event.cause = {.text = f[1], .code = *to_int(f[2])};
    event.lines.assign(f.begin() + 3, f.end());
  } else if (const auto assignment = parse_assignment(f)) {
    event.kind = LinkEvent::Kind::start;
    event.assignment = *assignment;
  } else {
    throw Error("node 0 sent a message that makes no sense");
  }
  const bool last = event.kind == LinkEvent::Kind::finish || event.kind == LinkEvent::Kind::refused;
  if (last) {
    const std::lock_guard lock(mutex_);
    over_ = true;
  }
  post(std::move(event));
  return !last;
}

void NodeLink::send(Fields fields) {
  {
    const std::lock_guard lock(mutex_);
    unsent_.push_back(std::move(fields));
  }
  changed_.notify_all();
}

void NodeLink::transmit() {
  for (uint64_t next = 1;; ++next) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return closing_ || lost_ || (store_ && !unsent_.empty()); });
    if (closing_ || lost_) return;
    const Fields fields = std::move(unsent_.front());
    unsent_.pop_front();
    in_flight_ = 1;
    const auto store = store_;
    lock.unlock();
    try {
      store->set(key_from(id(), next), pack(fields), kSilence);
    } catch (const Error& error) {
      lose(error.what());
    }
    lock.lock();
    in_flight_ = 0;
    changed_.notify_all();
  }
}

void NodeLink::farewell(double seconds) {
  send({"farewell"});
  std::unique_lock lock(mutex_);
  changed_.wait_until(lock, deadline_after(seconds),
                      [this] { return lost_ || (unsent_.empty() && in_flight_ == 0); });
}

}  // namespace weft::inline v0::launcher
