// A group of ranks and its collectives.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <weft/core/tensor.hpp>
#include <weft/dist/comm/call.hpp>

namespace weft::inline v0::dist {

namespace detail {
class Transport;
}

inline constexpr double kCollectiveTimeout = 600.0;  ///< seconds; WEFT_COLLECTIVE_TIMEOUT's default

/// A handle to one rank's place in a group; copies share it. Every rank makes the same calls in the
/// same order, from one thread at a time; before any data moves the ranks compare what they call.
/// A call returns when its result is there.
///
/// Results are equal to the bit on all ranks and from run to run: elements are combined in the
/// order of the ranks (where the group spans hosts, on each host first, then in the order of the
/// hosts), 16-bit floats in f32 and rounded once. Tensors on another device than the
/// CPU, or not packed, go through a packed copy on the host.
///
/// Every collective throws DesyncError (on all ranks, with the calls of all) where the ranks call
/// different things, PeerLost where a rank is gone, TimeoutError (naming the ranks that are missing
/// and their last call) after WEFT_COLLECTIVE_TIMEOUT seconds, CommError after abort(). Then the
/// group is over: later calls throw the same at once. ArgumentError, for arguments that no rank
/// could use, comes before anything else and ends nothing; so does the CommError that a child by
/// fork gets, which is no member.
class WEFT_API Group {
 public:
  /// A group of this process alone.
  Group();
  explicit Group(std::unique_ptr<detail::Transport> transport);

  int rank() const;
  int size() const;
  const std::string& name() const;

  /// Throws what ended the group, if anything did; waits for nobody.
  void check_alive() const;

  /// Returns when every rank has called it.
  void barrier() const;

  /// Combines `tensor` over the ranks, in place. avg needs a floating dtype.
  void all_reduce(const Tensor& tensor, ReduceOp op = ReduceOp::sum) const;

  /// All ranks' tensors (equal shapes), stacked: [size, ...].
  Tensor all_gather(const Tensor& tensor) const;

  /// Combines `tensor`, [size * n, ...], over the ranks and returns this rank's n rows.
  /// Throws ArgumentError where the first dim does not divide by the size.
  Tensor reduce_scatter(const Tensor& tensor, ReduceOp op = ReduceOp::sum) const;

  /// Overwrites `tensor` with that of `root`.
  void broadcast(const Tensor& tensor, int root = 0) const;

  /// On `root`: all ranks' tensors (equal shapes), stacked; an undefined tensor elsewhere.
  Tensor gather(const Tensor& tensor, int root = 0) const;

  /// Overwrites `tensor` with row rank() of the root's `rows`, [size, ...]; `rows` counts on the
  /// root alone.
  void scatter(const Tensor& tensor, const Tensor& rows, int root = 0) const;

  /// Sends the n rows [r * n, (r + 1) * n) of `tensor`, [size * n, ...], to each rank r and returns
  /// what came, in the order of the ranks. Throws ArgumentError where the first dim does not
  /// divide.
  Tensor all_to_all(const Tensor& tensor) const;

  /// Sends `tensor` to rank `to`, which calls recv with the same shape and dtype; returns when it
  /// has arrived.
  void send(const Tensor& tensor, int to) const;
  /// Overwrites `tensor` with what rank `from` sends.
  void recv(const Tensor& tensor, int from) const;

  /// All ranks' strings of any bytes and sizes, by rank (torch.distributed.all_gather_object, for
  /// what the program has turned into bytes itself). Each rank needs memory for size() times the
  /// longest one.
  std::vector<std::string> all_gather_bytes(const std::string& bytes) const;
  /// The same on `root` alone; empty elsewhere.
  std::vector<std::string> gather_bytes(const std::string& bytes, int root = 0) const;
  /// The root's string; `bytes` counts on the root alone.
  std::string broadcast_bytes(const std::string& bytes, int root = 0) const;

  /// `bytes` of zeroed host memory that the other ranks can reach: tensors over it (gradient
  /// buckets) are reduced without being copied. A collective: all ranks ask for the same size.
  /// Freed with its last handle on each rank. Throws OutOfMemory on all ranks.
  Storage allocate_shared(size_t bytes) const;

  /// The ranks that give the same `color` become a group, ordered by `key`, then by rank. A
  /// collective. A negative color gives the group of this process alone.
  Group split(int color, int key = 0) const;

  /// Seconds that each call from now on may wait for a rank, on this rank; else
  /// WEFT_COLLECTIVE_TIMEOUT counts. Groups that are split off later have the same.
  void set_timeout(double seconds) const;

  /// How late each rank came to the group's collectives so far. No collective: any rank may ask at
  /// any time. On several hosts: of the ranks of this one, compared among themselves. Empty for a
  /// group of one, and where this rank is the only one of its host.
  std::vector<RankStatistics> statistics() const;

  /// Ends the group for all ranks: calls under way and later ones throw CommError with `reason`.
  /// From any thread; the first call counts. In a child by fork it does nothing.
  void abort(const std::string& reason = "") const noexcept;

 private:
  void check_rank(const char* op, int rank, bool other_than_self) const;
  std::vector<int64_t> all_sizes(const std::string& bytes) const;

  std::shared_ptr<detail::Transport> transport_;
};

/// The group of all ranks of the job that this process belongs to, as RANK, WORLD_SIZE and the
/// job's store say (dist/store/tcp_store.hpp); the group of this process alone without them. Throws
/// ArgumentError for variables that make no sense, TimeoutError where ranks do not join within
/// WEFT_JOIN_TIMEOUT, CommError where the ranks are on several hosts and weft was built without
/// gloo, or the hosts cannot reach each other.
WEFT_API Group init_process_group();

/// Runs `body` as `size` ranks that are threads of this process, over the same code as processes of
/// one host, and waits for them. For tests. The first exception that a rank ended with is thrown
/// again.
WEFT_API void run_fake_group(int size, const std::function<void(const Group&)>& body,
                             double timeout = kCollectiveTimeout);

/// The same with rank r on node `node_of[r]`, over the code that spans hosts; between the nodes,
/// memory takes the network's place.
WEFT_API void run_fake_nodes(const std::vector<int>& node_of,
                             const std::function<void(const Group&)>& body,
                             double timeout = kCollectiveTimeout);

}  // namespace weft::inline v0::dist
