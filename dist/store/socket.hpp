// Stream sockets with deadlines.
#pragma once

#include <string>
#include <string_view>

#include <weft/dist/store/clock.hpp>

namespace weft::inline v0::dist::detail {

/// An owned file descriptor.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(other.release()) {}
  Fd& operator=(Fd&& other) noexcept;
  ~Fd() { reset(); }

  int get() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }
  int release() noexcept;
  void reset() noexcept;

 private:
  int fd_ = -1;
};

enum class IoResult { done, timed_out, closed };

/// Waits until `fd` has one of the poll events; false where the deadline passes, or `wakeup`
/// (optional) becomes readable, first.
bool wait_ready(int fd, short events, TimePoint deadline, int wakeup = -1);

/// Sends all of `bytes`.
IoResult send_all(int fd, std::string_view bytes, TimePoint deadline);

/// Receives exactly `count` bytes.
IoResult receive_exactly(int fd, size_t count, std::string& bytes, TimePoint deadline);

/// Receives what is there, at least one byte, at the end of `bytes`; `timed_out` also where the
/// descriptor `wakeup` (optional) becomes readable first.
IoResult receive_some(int fd, std::string& bytes, TimePoint deadline, int wakeup = -1);

/// Small messages at once; a peer that answers nothing for 10 s, not even the system's own probes,
/// counts as gone.
void set_tcp_options(int fd);

/// A listening socket on exactly `address`; `port` 0 becomes the port that it got.
/// Throws ArgumentError for a wildcard or no address, IoError where it cannot be bound.
Fd listen_on(const std::string& address, int& port);

/// Whether this host has the numeric address.
bool has_address(const std::string& address);

/// Connects, or leaves the Fd empty and says why in `error`. Throws CommError where `host` does not
/// resolve.
Fd connect_to(const std::string& host, int port, TimePoint deadline, std::string& error);

/// "127.0.0.1:4711", the peer of a connected socket.
std::string peer_name(int fd);

/// The address that this host uses to send to `host`. Throws CommError where that does not resolve
/// or there is no way to it.
std::string local_address_towards(const std::string& host);

/// "host:port", with brackets around an IPv6 address.
std::string endpoint_name(const std::string& host, int port);

}  // namespace weft::inline v0::dist::detail
