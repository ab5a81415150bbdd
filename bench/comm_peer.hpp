// The peer of bench/comm, raw gloo, behind plain functions.
#pragma once

#include <cstddef>
#include <memory>

#include <weft/dist/store/store.hpp>

namespace weft::bench {

/// One rank of a gloo group over TCP on this host.
class RawGloo {
 public:
  /// Joins through `store`.
  RawGloo(dist::Store& store, int rank, int size);
  ~RawGloo();

  /// Sums `data` over the ranks, in place, by the algorithm that is fastest at this size.
  void all_reduce(float* data, size_t count);
  void barrier();

  /// False where this program was built without gloo; the rest then does nothing.
  static bool is_built();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace weft::bench
