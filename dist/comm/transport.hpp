// What carries a group's collectives: bytes and calls, no tensors.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include <weft/core/storage.hpp>
#include <weft/dist/comm/call.hpp>
#include <weft/dist/comm/forks.hpp>
#include <weft/dist/comm/peers.hpp>

namespace weft::inline v0::dist::detail {

class Control;

/// All ranks make the same calls in the same order, one at a time. Data is packed host memory. Each
/// call throws DesyncError, PeerLost, TimeoutError or CommError; after one of these the group is
/// over and every later call throws the same.
class Transport {
 public:
  virtual ~Transport() = default;

  virtual const std::string& name() const = 0;
  virtual int rank() const = 0;
  virtual int size() const = 0;

  virtual void check_alive() = 0;
  virtual void barrier() = 0;
  /// In place; call.shape is that of `data`.
  virtual void all_reduce(const Call& call, std::byte* data) = 0;
  /// call.shape is that of `in`; `out` has one after the other of all ranks.
  virtual void all_gather(const Call& call, const std::byte* in, std::byte* out) = 0;
  /// call.shape is that of `out`; `in` has one such piece for each rank.
  virtual void reduce_scatter(const Call& call, const std::byte* in, std::byte* out) = 0;
  virtual void broadcast(const Call& call, std::byte* data) = 0;
  /// `out` counts on the root alone.
  virtual void gather(const Call& call, const std::byte* in, std::byte* out) = 0;
  /// call.shape is that of `out`; `in` counts on the root alone.
  virtual void scatter(const Call& call, const std::byte* in, std::byte* out) = 0;
  /// call.shape is that of one piece; piece r of `in` becomes piece rank() of rank r's `out`.
  virtual void all_to_all(const Call& call, const std::byte* in, std::byte* out) = 0;
  virtual void send(const Call& call, const std::byte* data) = 0;
  virtual void recv(const Call& call, std::byte* data) = 0;

  virtual Storage allocate_shared(size_t bytes) = 0;
  /// The group of `members` (this one's ranks in the order of the new one's). Called by all ranks
  /// after the same collectives, each with its own group's color and members.
  virtual std::unique_ptr<Transport> split(int color, const std::vector<int>& members) = 0;
  virtual void abort(const std::string& reason) noexcept = 0;

  /// Seconds for each call from now on.
  virtual void set_timeout(double seconds) = 0;
  /// Whether threads and connections belong to it, which a child by fork does not have or must
  /// leave alone; see Note [Forked children].
  virtual bool belongs_to_process() const { return false; }
  /// Of the ranks that this one can see.
  virtual std::vector<RankStatistics> statistics() const { return {}; }

  /// The process that is this rank.
  const ProcessMark& process() const noexcept { return process_; }

 private:
  ProcessMark process_;
};

/// The ranks of one node, as a group that spans several nodes uses them: their collectives, and the
/// control block and memory behind those.
class NodeTransport : public Transport {
 public:
  virtual Control& control() = 0;
  virtual Peers& peers() = 0;
  /// Where `data` lies in memory of allocate_shared, as a word equal on all ranks of the node; 0
  /// for other memory.
  virtual uint64_t place_of(const std::byte* data, size_t bytes) const = 0;
  /// The same place in that rank's part.
  virtual std::byte* at(uint64_t place, int rank) const = 0;
};

/// Over memory that the ranks share; `timeout` in seconds for each call.
std::unique_ptr<Transport> make_shared_transport(std::unique_ptr<Peers> peers,
                                                 const std::string& name, double timeout);

/// The same for one node's part of the group `name`, whose ranks there are `labels`.
std::unique_ptr<NodeTransport> make_node_transport(std::unique_ptr<Peers> peers,
                                                   const std::string& name, double timeout,
                                                   const std::vector<int>& labels);

/// A group of one.
std::unique_ptr<Transport> make_single_transport(const std::string& name);

}  // namespace weft::inline v0::dist::detail
