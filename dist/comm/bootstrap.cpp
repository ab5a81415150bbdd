// The group of the whole job.
#include <weft/core/base/check.hpp>
#include <weft/core/base/env.hpp>
#include <weft/dist/comm/group.hpp>
#include <weft/dist/comm/transport.hpp>
#include <weft/dist/store/tcp_store.hpp>

namespace weft::inline v0::dist {

namespace {

constexpr int64_t kMostRanks = 1 << 20;
constexpr int64_t kLongest = int64_t{10} * 365 * 24 * 3600;

int read_int(const char* name, int64_t low, int64_t high, int64_t fallback) {
  return static_cast<int>(env::get_int(name, low, high).value_or(fallback));
}

}  // namespace

Group init_process_group() {
  const int size = read_int("WORLD_SIZE", 1, kMostRanks, 1);
  const int rank = read_int("RANK", 0, kMostRanks, 0);
  WEFT_CHECK(ArgumentError, rank < size,
             "init_process_group: RANK={} but WORLD_SIZE={}; ranks count from 0", rank, size);
  if (size == 1) return Group(detail::make_single_transport("world"));
  WEFT_CHECK(ArgumentError, env::get("RANK").has_value(),
             "init_process_group: WORLD_SIZE={} but RANK is not set; start the program with the "
             "launcher",
             size);
  const int local_size = read_int("LOCAL_WORLD_SIZE", 1, kMostRanks, size);
  WEFT_CHECK(CommError, local_size == size,
             "init_process_group: {} of {} ranks are on this host; groups over several hosts are "
             "not supported by this version",
             local_size, size);
  const double timeout =
      static_cast<double>(env::get_int("WEFT_COLLECTIVE_TIMEOUT", 1, kLongest)
                              .value_or(static_cast<int64_t>(kCollectiveTimeout)));
  const std::shared_ptr<Store> store = connect_store_from_environment();
  auto peers = detail::join_processes(store, "world", rank, size,
                                      detail::deadline_after(store->default_timeout()));
  return Group(detail::make_shared_transport(std::move(peers), "world", timeout));
}

}  // namespace weft::inline v0::dist
