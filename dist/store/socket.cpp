#include <weft/dist/store/socket.hpp>

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>

#include <weft/core/base/check.hpp>

namespace weft::inline v0::dist::detail {

using weft::detail::fail;

namespace {

struct FreeAddresses {
  void operator()(addrinfo* list) const { freeaddrinfo(list); }
};
using Addresses = std::unique_ptr<addrinfo, FreeAddresses>;

int resolve(const std::string& host, int port, Addresses& found) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* list = nullptr;
  const int error = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &list);
  found.reset(list);
  return error;
}

bool is_wildcard(const sockaddr* address) {
  if (address->sa_family == AF_INET)
    return reinterpret_cast<const sockaddr_in*>(address)->sin_addr.s_addr == htonl(INADDR_ANY);
  return IN6_IS_ADDR_UNSPECIFIED(&reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr) != 0;
}

/// A connect to a free port of this host may by chance pick that same port as its own and then
/// connect to itself; nobody listens there.
bool is_own_peer(int fd) {
  sockaddr_storage own{}, peer{};
  socklen_t own_size = sizeof own, peer_size = sizeof peer;
  return ::getsockname(fd, reinterpret_cast<sockaddr*>(&own), &own_size) == 0 &&
         ::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &peer_size) == 0 &&
         own_size == peer_size && std::memcmp(&own, &peer, own_size) == 0;
}

/// Host and port of a socket address, as text.
std::pair<std::string, int> describe(const sockaddr_storage& address, socklen_t size) {
  char host[NI_MAXHOST] = "?";
  char service[NI_MAXSERV] = "0";
  getnameinfo(reinterpret_cast<const sockaddr*>(&address), size, host, sizeof host, service,
              sizeof service, NI_NUMERICHOST | NI_NUMERICSERV);
  return {host, std::atoi(service)};
}

}  // namespace

Fd& Fd::operator=(Fd&& other) noexcept {
  if (this != &other) {
    reset();
    fd_ = other.release();
  }
  return *this;
}

int Fd::release() noexcept { return std::exchange(fd_, -1); }

void Fd::reset() noexcept {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

bool wait_ready(int fd, short events, TimePoint deadline, int wakeup) {
  for (;;) {
    pollfd entries[2] = {{fd, events, 0}, {wakeup, POLLIN, 0}};  // poll skips a negative one
    const int count = ::poll(entries, 2, poll_timeout(deadline));
    if (count > 0) return entries[0].revents != 0;
    if (count == 0 && Clock::now() >= deadline) return false;
    if (count < 0 && errno != EINTR) fail<IoError>("store: poll: {}", std::strerror(errno));
  }
}

IoResult send_all(int fd, std::string_view bytes, TimePoint deadline) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) {
      bytes.remove_prefix(static_cast<size_t>(sent));
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      if (!wait_ready(fd, POLLOUT, deadline)) return IoResult::timed_out;
    } else if (errno != EINTR) {
      return IoResult::closed;
    }
  }
  return IoResult::done;
}

IoResult receive_some(int fd, std::string& bytes, TimePoint deadline, int wakeup) {
  constexpr size_t kChunk = 64 * 1024;
  const size_t before = bytes.size();
  bytes.resize(before + kChunk);
  for (;;) {
    const ssize_t got = ::recv(fd, bytes.data() + before, kChunk, MSG_DONTWAIT);
    if (got > 0) {
      bytes.resize(before + static_cast<size_t>(got));
      return IoResult::done;
    }
    const bool would_block = got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
    if (would_block && wait_ready(fd, POLLIN, deadline, wakeup)) continue;
    if (got < 0 && errno == EINTR) continue;
    bytes.resize(before);
    return would_block ? IoResult::timed_out : IoResult::closed;
  }
}

IoResult receive_exactly(int fd, size_t count, std::string& bytes, TimePoint deadline) {
  bytes.resize(count);
  for (size_t done = 0; done < count;) {
    const ssize_t got = ::recv(fd, bytes.data() + done, count - done, MSG_DONTWAIT);
    if (got > 0) {
      done += static_cast<size_t>(got);
    } else if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      if (!wait_ready(fd, POLLIN, deadline)) return IoResult::timed_out;
    } else if (got == 0 || errno != EINTR) {
      return IoResult::closed;
    }
  }
  return IoResult::done;
}

void set_tcp_options(int fd) {
  const auto set = [fd](int level, int name, int value) {
    ::setsockopt(fd, level, name, &value, sizeof value);
  };
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 2);   // seconds without data before the first probe
  set(IPPROTO_TCP, TCP_KEEPINTVL, 2);  // seconds between probes
  set(IPPROTO_TCP, TCP_KEEPCNT, 4);
  set(IPPROTO_TCP, TCP_USER_TIMEOUT, 10'000);  // milliseconds that sent data may stay unanswered
}

Fd listen_on(const std::string& address, int& port) {
  Addresses found;
  const int unresolved = address.empty() ? EAI_NONAME : resolve(address, port, found);
  if (unresolved != 0)
    fail<ArgumentError>(
        "store: cannot listen on '{}': {}; use the address of one interface, such as 127.0.0.1",
        address, gai_strerror(unresolved));
  if (is_wildcard(found->ai_addr))
    fail<ArgumentError>(
        "store: {} means every interface; name the one address to listen on, such "
        "as 127.0.0.1",
        address);
  Fd fd(::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int on = 1;
  // SO_REUSEADDR lets a fixed port be used again while old connections are in TIME_WAIT.
  if (!fd || ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
      ::bind(fd.get(), found->ai_addr, found->ai_addrlen) != 0 || ::listen(fd.get(), 1024) != 0)
    fail<IoError>("store: cannot listen on {}: {}; use port 0 for any free port",
                  endpoint_name(address, port), std::strerror(errno));
  sockaddr_storage bound{};
  socklen_t size = sizeof bound;
  if (::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&bound), &size) != 0)
    fail<IoError>("store: getsockname: {}", std::strerror(errno));
  port = describe(bound, size).second;
  return fd;
}

bool has_address(const std::string& address) {
  Addresses found;
  if (resolve(address, 0, found) != 0) return false;
  const Fd fd(::socket(found->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  return fd && ::bind(fd.get(), found->ai_addr, found->ai_addrlen) == 0;
}

Fd connect_to(const std::string& host, int port, TimePoint deadline, std::string& error) {
  Addresses found;
  if (const int code = resolve(host, port, found); code != 0)
    fail<CommError>("store: cannot resolve the host '{}': {}", host, gai_strerror(code));
  for (const addrinfo* a = found.get(); a != nullptr; a = a->ai_next) {
    Fd fd(::socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    int code = 0;
    if (!fd || (::connect(fd.get(), a->ai_addr, a->ai_addrlen) != 0 && errno != EINPROGRESS)) {
      code = errno;
    } else if (!wait_ready(fd.get(), POLLOUT, deadline)) {
      code = ETIMEDOUT;
    } else {
      socklen_t size = sizeof code;
      ::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &code, &size);
      if (code == 0 && is_own_peer(fd.get())) code = ECONNREFUSED;
    }
    if (code == 0) {
      set_tcp_options(fd.get());
      return fd;
    }
    error = std::strerror(code);
  }
  return {};
}

std::string local_address_towards(const std::string& host) {
  Addresses found;
  if (const int code = resolve(host, 9, found); code != 0)
    fail<CommError>("store: cannot resolve the host '{}': {}", host, gai_strerror(code));
  std::string error = "no address";
  for (const addrinfo* a = found.get(); a != nullptr; a = a->ai_next) {
    // Nothing is sent: connecting a datagram socket looks up the way.
    const Fd fd(::socket(a->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_storage own{};
    socklen_t size = sizeof own;
    if (fd && ::connect(fd.get(), a->ai_addr, a->ai_addrlen) == 0 &&
        ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&own), &size) == 0)
      return describe(own, size).first;
    error = std::strerror(errno);
  }
  fail<CommError>("store: no way to the host '{}': {}", host, error);
}

std::string peer_name(int fd) {
  sockaddr_storage peer{};
  socklen_t size = sizeof peer;
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) != 0) return "a closed peer";
  const auto [host, port] = describe(peer, size);
  return endpoint_name(host, port);
}

std::string endpoint_name(const std::string& host, int port) {
  const bool brackets = host.find(':') != std::string::npos;
  return fmt::format("{}{}{}:{}", brackets ? "[" : "", host, brackets ? "]" : "", port);
}

}  // namespace weft::inline v0::dist::detail
