#include <weft/tests/support/fault_proxy.hpp>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <deque>
#include <future>
#include <list>
#include <mutex>
#include <random>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace weft::test {

namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kMostQueued = 1 << 20;  // bytes of one direction; then its sender has to wait
constexpr size_t kReadAtOnce = 64 * 1024;

[[noreturn]] void fail(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

class Socket {
 public:
  Socket() = default;
  explicit Socket(int fd) : fd_(fd) {}
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Socket& operator=(Socket&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Socket() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

  /// Closes it so that the peer gets RST, not FIN.
  void reset() {
    if (fd_ < 0) return;
    const linger now{1, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    ::close(std::exchange(fd_, -1));
  }

 private:
  int fd_ = -1;
};

struct FreeAddresses {
  void operator()(addrinfo* list) const { ::freeaddrinfo(list); }
};

std::unique_ptr<addrinfo, FreeAddresses> resolve(const std::string& host, int port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV | AI_NUMERICHOST;
  addrinfo* list = nullptr;
  if (::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &list) != 0) {
    errno = EINVAL;
    fail("fault proxy: the address");
  }
  return std::unique_ptr<addrinfo, FreeAddresses>(list);
}

Socket listen_at(const std::string& host, int& port) {
  const auto address = resolve(host, 0);
  Socket made(
      ::socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP));
  if (!made || ::bind(made.get(), address->ai_addr, address->ai_addrlen) != 0 ||
      ::listen(made.get(), 1024) != 0)
    fail("fault proxy: listen");
  sockaddr_storage bound{};
  socklen_t size = sizeof bound;
  ::getsockname(made.get(), reinterpret_cast<sockaddr*>(&bound), &size);
  port = ntohs(bound.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6&>(bound).sin6_port
                                           : reinterpret_cast<const sockaddr_in&>(bound).sin_port);
  return made;
}

Socket connect_at(const std::string& host, int port) {
  const auto address = resolve(host, port);
  Socket made(::socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP));
  if (!made || ::connect(made.get(), address->ai_addr, address->ai_addrlen) != 0) return {};
  const int on = 1;
  ::setsockopt(made.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  ::fcntl(made.get(), F_SETFL, ::fcntl(made.get(), F_GETFL) | O_NONBLOCK);
  return made;
}

struct Segment {
  std::string bytes;
  size_t sent = 0;
  Clock::time_point due;
  bool held = false;  // until stalls are released
};

/// One direction of one connection.
struct Flow {
  FlowPlan plan;
  size_t seen = 0;     // bytes that came in
  std::string recent;  // the last of them, for replays
  std::deque<Segment> queue;
  size_t queued = 0;
  bool stalled = false;     // by its plan
  bool ended = false;       // its sender has closed
  bool passed_end = false;  // and its receiver has been told
};

struct Connection {
  int number = 0;
  Socket client, server;
  std::array<Flow, 2> flows;  // by Direction
  bool reset_due = false;     // once what came before it has been sent
  bool close_due = false;

  int source(size_t direction) const { return direction == 0 ? client.get() : server.get(); }
  int target(size_t direction) const { return direction == 0 ? server.get() : client.get(); }
};

/// Whether the fault at `at` lies in the bytes [from, from + count).
bool falls_in(size_t at, size_t from, size_t count) { return at >= from && at - from < count; }

}  // namespace

struct FaultProxy::Impl {
  FaultProxyOptions options;
  int port = 0;
  Socket listener, wake{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  std::mt19937_64 random;
  std::list<Connection> connections;
  std::vector<Socket> held;  // clients that wait for others to come
  int accepted = 0;
  std::array<bool, 2> stalled{};
  bool refusing = false, stopping = false;

  std::mutex mutex;  // over `requests`
  std::vector<std::packaged_task<void()>> requests;
  std::thread thread;

  explicit Impl(FaultProxyOptions given)
      : options(std::move(given)),
        listener(listen_at(options.address, port)),
        random(options.seed) {
    if (!wake) fail("fault proxy: eventfd");
    thread = std::thread([this] { run(); });
  }

  /// Has the proxy's thread do it and waits until it is done.
  void request(std::function<void()> action) {
    std::packaged_task<void()> task(std::move(action));
    std::future<void> done = task.get_future();
    {
      const std::lock_guard lock(mutex);
      requests.push_back(std::move(task));
    }
    ::eventfd_write(wake.get(), 1);
    done.get();
  }

  void run();
  int wait();
  void answer_requests();
  void accept_all();
  void open(Socket client);
  void step(Connection& connection);
  void receive(Connection& connection, size_t direction);
  void plan_bytes(Connection& connection, Flow& flow, std::string bytes);
  void enqueue(Flow& flow, std::string bytes);
  bool send(Connection& connection, size_t direction);
  bool may_pass(const Connection& connection, size_t direction) const {
    const std::deque<Segment>& queue = connection.flows[direction].queue;
    return !stalled[direction] && (queue.empty() || !queue.front().held);
  }
};

void FaultProxy::Impl::run() {
  while (!stopping) {
    wait();
    answer_requests();
    accept_all();
    for (auto it = connections.begin(); it != connections.end();) {
      step(*it);
      it = it->client ? std::next(it) : connections.erase(it);
    }
  }
}

/// Sleeps until a socket is ready or a delayed segment is due.
int FaultProxy::Impl::wait() {
  std::vector<pollfd> entries = {{wake.get(), POLLIN, 0}, {listener.get(), POLLIN, 0}};
  const Clock::time_point now = Clock::now();
  Clock::time_point next = now + std::chrono::hours(1);
  for (const Connection& connection : connections) {
    for (const size_t direction : {0, 1}) {
      const Flow& flow = connection.flows[direction];
      // A stalled flow is read too, up to the limit: its sender's network still works.
      if (!flow.ended && flow.queued < kMostQueued)
        entries.push_back({connection.source(direction), POLLIN, 0});
      if (flow.queue.empty() || !may_pass(connection, direction)) continue;
      if (flow.queue.front().due > now)
        next = std::min(next, flow.queue.front().due);
      else
        entries.push_back({connection.target(direction), POLLOUT, 0});
    }
  }
  const auto rest = std::chrono::ceil<std::chrono::milliseconds>(next - now);
  return ::poll(entries.data(), entries.size(), static_cast<int>(rest.count()));
}

void FaultProxy::Impl::answer_requests() {
  eventfd_t count = 0;
  ::eventfd_read(wake.get(), &count);
  std::vector<std::packaged_task<void()>> taken;
  {
    const std::lock_guard lock(mutex);
    taken.swap(requests);
  }
  for (auto& task : taken) task();
}

void FaultProxy::Impl::accept_all() {
  for (;;) {
    Socket client(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!client) return;
    const int on = 1;
    ::setsockopt(client.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (refusing) {
      ++accepted;
      client.reset();
      continue;
    }
    held.push_back(std::move(client));
    if (static_cast<int>(held.size()) < options.connects_held) continue;
    std::shuffle(held.begin(), held.end(), random);
    for (Socket& one : held) open(std::move(one));
    held.clear();
    options.connects_held = 1;
  }
}

void FaultProxy::Impl::open(Socket client) {
  Connection made;
  made.number = accepted++;
  made.client = std::move(client);
  made.server = connect_at(options.server_host, options.server_port);
  if (!made.server) {
    made.client.reset();
    return;
  }
  if (options.plan) {
    made.flows[0].plan = options.plan(made.number, Direction::to_server);
    made.flows[1].plan = options.plan(made.number, Direction::to_client);
  }
  connections.push_back(std::move(made));
}

void FaultProxy::Impl::step(Connection& connection) {
  for (const size_t direction : {0, 1}) {
    if (!connection.client) return;
    receive(connection, direction);
  }
  for (const size_t direction : {0, 1}) {
    if (!connection.client) return;
    if (!send(connection, direction)) {
      connection.client.reset();
      connection.server.reset();
    }
  }
  const bool empty = connection.flows[0].queue.empty() && connection.flows[1].queue.empty();
  if (connection.reset_due && empty) {
    connection.client.reset();
    connection.server.reset();
  } else if ((connection.close_due && empty) ||
             (connection.flows[0].passed_end && connection.flows[1].passed_end)) {
    connection.client = {};
    connection.server = {};
  }
}

void FaultProxy::Impl::receive(Connection& connection, size_t direction) {
  Flow& flow = connection.flows[direction];
  while (!flow.ended && flow.queued < kMostQueued) {
    std::string bytes(kReadAtOnce, '\0');
    const ssize_t got = ::recv(connection.source(direction), bytes.data(), bytes.size(), 0);
    if (got > 0) {
      bytes.resize(static_cast<size_t>(got));
      plan_bytes(connection, flow, std::move(bytes));
    } else if (got == 0) {
      flow.ended = true;
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      return;
    } else if (errno != EINTR) {
      connection.client.reset();
      connection.server.reset();
      return;
    }
  }
}

/// Does to newly received bytes what the flow's plan says and queues what is left of them.
void FaultProxy::Impl::plan_bytes(Connection& connection, Flow& flow, std::string bytes) {
  const FlowPlan& plan = flow.plan;
  if (connection.reset_due || connection.close_due) return;  // lost on the way
  const size_t from = flow.seen, count = bytes.size();
  flow.seen += count;
  if (falls_in(plan.corrupt_at, from, count))
    bytes[plan.corrupt_at - from] ^= static_cast<char>(1u << (random() % 8));
  std::string out;
  for (size_t i = 0; i < count; ++i) {
    const size_t at = from + i;
    if (at == plan.replay_at)
      out += flow.recent.substr(flow.recent.size() - std::min(flow.recent.size(), plan.count));
    if (at == plan.stall_at) {
      enqueue(flow, std::exchange(out, {}));
      flow.stalled = true;
    }
    if (at == plan.reset_at || at == plan.close_at) {
      (at == plan.reset_at ? connection.reset_due : connection.close_due) = true;
      break;
    }
    if (plan.replay_at != FlowPlan::kNever) flow.recent += bytes[i];
    if (plan.drop_at == FlowPlan::kNever || !falls_in(at, plan.drop_at, plan.count))
      out += bytes[i];
  }
  enqueue(flow, std::move(out));
}

void FaultProxy::Impl::enqueue(Flow& flow, std::string bytes) {
  const FlowPlan& plan = flow.plan;
  const size_t size = plan.segment == 0 ? bytes.size() : plan.segment;
  for (size_t at = 0; at < bytes.size(); at += size) {
    auto wait = plan.delay;
    if (plan.jitter.count() > 0)
      wait += std::chrono::milliseconds(random() % static_cast<uint64_t>(plan.jitter.count() + 1));
    Clock::time_point due = Clock::now() + wait;
    if (!flow.queue.empty()) due = std::max(due, flow.queue.back().due);
    flow.queue.push_back({bytes.substr(at, size), 0, due, flow.stalled});
  }
  flow.queued += bytes.size();
}

/// Sends what is due; false where the receiver is gone.
bool FaultProxy::Impl::send(Connection& connection, size_t direction) {
  Flow& flow = connection.flows[direction];
  if (!may_pass(connection, direction)) return true;
  while (!flow.queue.empty() && flow.queue.front().due <= Clock::now() &&
         !flow.queue.front().held) {
    Segment& segment = flow.queue.front();
    const ssize_t sent = ::send(connection.target(direction), segment.bytes.data() + segment.sent,
                                segment.bytes.size() - segment.sent, MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
    segment.sent += static_cast<size_t>(sent);
    flow.queued -= static_cast<size_t>(sent);
    if (segment.sent < segment.bytes.size()) return true;
    flow.queue.pop_front();
  }
  if (flow.queue.empty() && flow.ended && !flow.passed_end) {
    ::shutdown(connection.target(direction), SHUT_WR);
    flow.passed_end = true;
  }
  return true;
}

FaultProxy::FaultProxy(FaultProxyOptions options)
    : impl_(std::make_unique<Impl>(std::move(options))) {}

FaultProxy::~FaultProxy() {
  impl_->request([this] { impl_->stopping = true; });
  impl_->thread.join();
}

int FaultProxy::port() const { return impl_->port; }

void FaultProxy::stall(Direction direction) {
  impl_->request([&] { impl_->stalled[static_cast<size_t>(direction)] = true; });
}

void FaultProxy::release_stalls() {
  impl_->request([&] {
    impl_->stalled = {};
    for (Connection& connection : impl_->connections)
      for (Flow& flow : connection.flows) {
        flow.stalled = false;
        for (Segment& segment : flow.queue) segment.held = false;
      }
  });
}

void FaultProxy::reset_all() {
  impl_->request([&] {
    for (Connection& connection : impl_->connections) {
      connection.client.reset();
      connection.server.reset();
    }
    impl_->connections.clear();
  });
}

void FaultProxy::close_all() {
  impl_->request([&] { impl_->connections.clear(); });
}

void FaultProxy::refuse(bool on) {
  impl_->request([&] { impl_->refusing = on; });
}

int FaultProxy::connections() const {
  int count = 0;
  impl_->request([&] { count = impl_->accepted; });
  return count;
}

}  // namespace weft::test
