// What carries bytes between nodes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>

#include <weft/dist/store/clock.hpp>
#include <weft/dist/store/store.hpp>

namespace weft::inline v0::dist::detail {

/// The connection to `peer` is gone: its process ended, its host is unreachable, or either side
/// closed the link.
class LinkBroken : public std::runtime_error {
 public:
  LinkBroken(int peer, const std::string& why) : std::runtime_error(why), peer_(peer) {}
  int peer() const noexcept { return peer_; }

 private:
  int peer_;
};

/// One message under way. May be destroyed before it is complete where the link is then closed.
class Transfer {
 public:
  virtual ~Transfer() = default;
  /// Waits until the message has been received or handed to the system, at most some 20 ms; whether
  /// it has. Throws LinkBroken.
  virtual bool wait() = 0;
};

/// A mesh of processes, one per node. Messages between two processes that have the same slot arrive
/// in the order of the calls; the receiver gives exactly the size that the sender gives. Memory
/// must stay until the transfer is complete.
class CrossLink {
 public:
  /// What has been handed to the system still arrives, unless the link was closed.
  virtual ~CrossLink() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual std::unique_ptr<Transfer> send(int peer, uint64_t slot, const std::byte* data,
                                         size_t bytes) = 0;
  virtual std::unique_ptr<Transfer> receive(int peer, uint64_t slot, std::byte* data,
                                            size_t bytes) = 0;
  /// Drops all connections and what is under way, from any thread: the peers' waits throw.
  virtual void close() noexcept = 0;
};

/// Makes links.
class Connector {
 public:
  virtual ~Connector() = default;
  /// The link of `size` processes that all give the same `name` and each its own `rank`. `check` is
  /// called now and then while others are missing, and may throw. Throws TimeoutError at the
  /// deadline, CommError where no connection can be made.
  virtual std::unique_ptr<CrossLink> connect(const std::string& name, int rank, int size,
                                             TimePoint deadline,
                                             const std::function<void()>& check) = 0;
};

/// Between threads of this process: all that share the returned object can be linked.
std::shared_ptr<Connector> make_memory_connector();

/// Throws CommError where weft was built without gloo.
void require_gloo();

/// Over TCP by gloo. Processes find each other through `store`; this one binds `address`, or the
/// first address of `interface` where that is not empty. Throws as require_gloo, and
/// ArgumentError where there is no such interface or address.
std::shared_ptr<Connector> make_gloo_connector(std::shared_ptr<Store> store,
                                               const std::string& address,
                                               const std::string& interface);

}  // namespace weft::inline v0::dist::detail
