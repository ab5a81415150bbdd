// The ranks of a group as one of them sees the others: sharing memory, noticing death.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <weft/dist/comm/region.hpp>
#include <weft/dist/store/clock.hpp>
#include <weft/dist/store/store.hpp>

namespace weft::inline v0::dist::detail {

class Peers {
 public:
  virtual ~Peers() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;

  /// Zeroed memory of `bytes` that all ranks map; every rank calls it with the same size, in the
  /// same order. Throws OutOfMemory (on every rank), TimeoutError, PeerLost.
  virtual std::shared_ptr<Region> share(size_t bytes, TimePoint deadline) = 0;

  /// What `share` and `subset` look at now and then while they wait: it throws where there is
  /// nothing to wait for any more.
  virtual void set_check(std::function<void()>) {}

  /// Why `rank` cannot arrive any more; nothing while it can.
  virtual std::optional<std::string> gone(int rank) = 0;

  /// The ranks in `members` (of this one's numbering, ascending in the new one) as peers of their
  /// own. Called by the members alone; `name` is unique.
  virtual std::unique_ptr<Peers> subset(const std::string& name, const std::vector<int>& members,
                                        TimePoint deadline) = 0;
};

/// Processes of one user on one host, which find each other through `store`. Memory is a memfd,
/// passed over a Unix socket with an automatic abstract address; deaths show on pidfds. Nothing of
/// it has a name in a file system. `labels` are the numbers by which the ranks go in errors: those
/// of the whole group, where this is one node's part of it; none: 0, 1, …
std::unique_ptr<Peers> join_processes(std::shared_ptr<Store> store, const std::string& name,
                                      int rank, int size, TimePoint deadline,
                                      const std::vector<int>& labels = {});

/// `size` threads of this process.
std::vector<std::unique_ptr<Peers>> join_threads(int size);

}  // namespace weft::inline v0::dist::detail
