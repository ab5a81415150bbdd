// Groups that span several nodes.
#pragma once

#include <memory>
#include <string>

#include <weft/dist/comm/cross_link.hpp>
#include <weft/dist/comm/job_watch.hpp>
#include <weft/dist/comm/layout.hpp>
#include <weft/dist/comm/transport.hpp>

namespace weft::inline v0::dist::detail {

/// One rank's means of being in groups that span nodes; what they split into shares it.
struct SpanningParts {
  NodeLayout layout;
  std::shared_ptr<Connector> connector;
  std::shared_ptr<Store> store;  ///< of this attempt at the job
  std::shared_ptr<JobWatch> watch;
  double timeout = 0;  ///< seconds for each call
};

/// The group `name` of all ranks of the layout, of which this is `rank`; `peers` are those of its
/// node. Throws as Connector::connect, and what the node's part throws.
std::unique_ptr<Transport> make_spanning_transport(const std::string& name, int rank,
                                                   SpanningParts parts,
                                                   std::unique_ptr<Peers> peers,
                                                   TimePoint deadline);

}  // namespace weft::inline v0::dist::detail
