// The group of the whole job.
#include <weft/core/base/check.hpp>
#include <weft/core/base/env.hpp>
#include <weft/dist/comm/group.hpp>
#include <weft/dist/comm/transport.hpp>
#include <weft/dist/store/place.hpp>
#include <weft/dist/store/tcp_store.hpp>

namespace weft::inline v0::dist {

namespace {

constexpr int64_t kLongest = int64_t{10} * 365 * 24 * 3600;

}  // namespace

Group init_process_group() {
  const Place place = place_from_environment();
  if (place.size == 1) return Group(detail::make_single_transport("world"));
  WEFT_CHECK(CommError, place.one_host(),
             "init_process_group: {} of {} ranks are on this host; groups over several hosts are "
             "not supported by this version",
             place.local_size, place.size);
  const double timeout =
      static_cast<double>(env::get_int("WEFT_COLLECTIVE_TIMEOUT", 1, kLongest)
                              .value_or(static_cast<int64_t>(kCollectiveTimeout)));
  const std::shared_ptr<Store> store = connect_store_from_environment();
  auto peers = detail::join_processes(store, "world", place.rank, place.size,
                                      detail::deadline_after(store->default_timeout()));
  return Group(detail::make_shared_transport(std::move(peers), "world", timeout));
}

}  // namespace weft::inline v0::dist
