// The group of the whole job.
#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <sstream>

#include <weft/core/base/check.hpp>
#include <weft/core/base/env.hpp>
#include <weft/dist/comm/cross_link.hpp>
#include <weft/dist/comm/group.hpp>
#include <weft/dist/comm/spanning.hpp>
#include <weft/dist/comm/transport.hpp>
#include <weft/dist/store/host.hpp>
#include <weft/dist/store/place.hpp>
#include <weft/dist/store/socket.hpp>
#include <weft/dist/store/tcp_store.hpp>

namespace weft::inline v0::dist {

using detail::TimePoint;

namespace {

constexpr int64_t kLongest = int64_t{10} * 365 * 24 * 3600;

double time_left(TimePoint deadline) { return std::max(0.0, -detail::seconds_since(deadline)); }

std::string host_name() {
  char name[256] = {};
  return gethostname(name, sizeof name - 1) == 0 && name[0] != '\0' ? name : "?";
}

/// What the ranks of one node have in common and those of others have not.
std::string node_identity(const Place& place) {
  if (place.node_rank >= 0) return fmt::format("node{}", place.node_rank);
  std::string identity = detail::host_identity();  // one word
  std::replace(identity.begin(), identity.end(), ' ', '_');
  return "host-" + identity;
}

/// Tells the others where this rank is, and learns it of all.
detail::NodeLayout agree_on_layout(Store& store, const Place& place, TimePoint deadline) {
  store.set(fmt::format("place/{}", place.rank),
            fmt::format("{} {}", node_identity(place), host_name()));
  if (place.rank == 0) {
    std::string all;
    std::vector<int> missing;
    for (int rank = 0; rank < place.size; ++rank) try {
        all += store.get(fmt::format("place/{}", rank), time_left(deadline)) + "\n";
      } catch (const TimeoutError&) {
        missing.push_back(rank);
      }
    if (!missing.empty())
      weft::detail::fail<TimeoutError>(
          "group 'world': of {} ranks, {} did not join in time; start all of them, or raise "
          "WEFT_JOIN_TIMEOUT",
          place.size, detail::list_ranks(missing));
    store.set("layout", all);
  }
  std::string text;
  try {
    text = store.get("layout", time_left(deadline));
  } catch (const TimeoutError&) {
    weft::detail::fail<TimeoutError>(
        "group 'world': rank 0 did not answer rank {} in time; ranks may be missing", place.rank);
  }
  std::istringstream lines(text);
  std::vector<std::string> identities, hosts;
  for (std::string identity, host; lines >> identity >> host;) {
    identities.push_back(identity);
    hosts.push_back(host);
  }
  WEFT_CHECK(CommError, hosts.size() == static_cast<size_t>(place.size),
             "group 'world': rank 0 tells the places of {} ranks, this one expects {}",
             hosts.size(), place.size);
  std::vector<int> node_of;
  for (const std::string& identity : identities) {
    const auto first = std::find(identities.begin(), identities.end(), identity);
    node_of.push_back(static_cast<int>(first - identities.begin()));
  }
  return detail::make_layout(node_of, hosts);
}

/// The address by which this process reaches the job's store, and so, it is hoped, the other hosts.
std::string own_address(const Place& place) {
  std::string host = env::get("MASTER_ADDR").value_or(place.first_host);
  const auto store = env::get("WEFT_STORE");
  if (store && store->starts_with("tcp://")) {
    host = store->substr(6, store->rfind(':') - 6);
    if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  }
  return detail::local_address_towards(host);
}

detail::WatchedNodes watched_by(const detail::NodeLayout& layout, int rank) {
  const int node = layout.node_of[static_cast<size_t>(rank)];
  const int next = (node + 1) % layout.nodes();
  const std::vector<int>& theirs = layout.members[static_cast<size_t>(next)];
  return {.speaks = layout.local_rank(rank) == 0,
          .node = node,
          .next = next,
          .next_host = layout.name_of_node(next),
          .next_rank = theirs.size() == 1 ? theirs[0] : -1};
}

Group join_hosts(const Place& place, double timeout) {
  detail::require_gloo();
  detail::SpanningParts parts;
  parts.timeout = timeout;
  parts.store = connect_store_from_environment();
  const TimePoint deadline = detail::deadline_after(parts.store->default_timeout());
  parts.layout = agree_on_layout(*parts.store, place, deadline);
  const detail::NodeLayout& layout = parts.layout;
  const int node = layout.node_of[static_cast<size_t>(place.rank)];
  const int local_size = static_cast<int>(layout.members[static_cast<size_t>(node)].size());
  const bool spans = layout.nodes() > 1;
  if (spans)
    parts.connector = detail::make_gloo_connector(parts.store, own_address(place),
                                                  env::get("WEFT_SOCKET_IFNAME").value_or(""));
  auto peers = detail::join_processes(parts.store, spans ? fmt::format("world@{}", node) : "world",
                                      layout.local_rank(place.rank), local_size, deadline,
                                      layout.members[static_cast<size_t>(node)]);
  if (!spans) return Group(detail::make_shared_transport(std::move(peers), "world", timeout));
  parts.watch = detail::make_job_watch(parts.store, watched_by(layout, place.rank));
  return Group(detail::make_spanning_transport("world", place.rank, std::move(parts),
                                               std::move(peers), deadline));
}

}  // namespace

Group init_process_group() {
  const Place place = place_from_environment();
  if (place.size == 1) return Group(detail::make_single_transport("world"));
  const double timeout =
      static_cast<double>(env::get_int("WEFT_COLLECTIVE_TIMEOUT", 1, kLongest)
                              .value_or(static_cast<int64_t>(kCollectiveTimeout)));
  if (!place.one_host()) return join_hosts(place, timeout);
  const std::shared_ptr<Store> store = connect_store_from_environment();
  auto peers = detail::join_processes(store, "world", place.rank, place.size,
                                      detail::deadline_after(store->default_timeout()));
  return Group(detail::make_shared_transport(std::move(peers), "world", timeout));
}

}  // namespace weft::inline v0::dist
