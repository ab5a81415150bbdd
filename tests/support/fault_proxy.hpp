// A TCP proxy that does to a connection what networks do: delays, splits, stalls, resets, damage.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace weft::test {

/// What happens to the bytes of one connection in one direction. Offsets count that direction's
/// bytes from 0; kNever is past any stream's end.
struct FlowPlan {
  static constexpr size_t kNever = static_cast<size_t>(-1);

  std::chrono::milliseconds delay{0};   ///< of every segment
  std::chrono::milliseconds jitter{0};  ///< up to this much on top; segments keep their order
  size_t segment = 0;                   ///< bytes sent at once; 0: as they came

  size_t stall_at = kNever;    ///< from there on nothing passes, until FaultProxy::release_stalls
  size_t reset_at = kNever;    ///< there both ends get a reset (RST)
  size_t close_at = kNever;    ///< there both ends see the stream's end (FIN)
  size_t corrupt_at = kNever;  ///< this byte arrives with one bit flipped
  size_t drop_at = kNever;     ///< from there `count` bytes are missing
  size_t replay_at = kNever;   ///< there the last `count` bytes arrive a second time
  size_t count = 1;            ///< see drop_at and replay_at
};

enum class Direction { to_server, to_client };

struct FaultProxyOptions {
  std::string server_host = "127.0.0.1";
  int server_port = 0;
  std::string address = "127.0.0.1";  ///< where clients connect to
  uint64_t seed = 1;                  ///< of jitter, flipped bits and the order of held connects
  /// (optional) the plan of connection `n` (from 0, as they come), called on the proxy's thread
  std::function<FlowPlan(int n, Direction)> plan = nullptr;
  /// Clients are held until as many have come, then passed on in a drawn order; 1: at once.
  int connects_held = 1;
};

/// One thread that stands between clients and a server. Bytes that are under way when one end
/// closes still arrive, as on a network.
class FaultProxy {
 public:
  /// Binds a free port and starts. Throws std::system_error where it cannot.
  explicit FaultProxy(FaultProxyOptions options);
  ~FaultProxy();
  FaultProxy(const FaultProxy&) = delete;
  FaultProxy& operator=(const FaultProxy&) = delete;

  int port() const;

  // From any thread; each has taken effect when it returns.
  void stall(Direction direction);  ///< of all connections, new ones included
  void release_stalls();            ///< what was held back passes now
  void reset_all();                 ///< every connection that there is
  void close_all();
  void refuse(bool on);  ///< new connections are reset at once

  /// Connections that were accepted so far, refused ones included.
  int connections() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace weft::test
