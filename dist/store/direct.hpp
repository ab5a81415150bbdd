// The store of a job that srun, mpirun, torchrun or a user started without weft's launcher.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <weft/dist/store/place.hpp>
#include <weft/dist/store/store.hpp>
#include <weft/dist/store/tcp_store.hpp>

namespace weft::inline v0::dist::detail {

/// The secret that WEFT_TOKEN is, or that the file WEFT_TOKEN_FILE holds. Throws ArgumentError
/// where there is none, or it is too short; IoError where the file cannot be read.
std::string token_from_environment();

/// The ports at which the store of `job` may listen, in the order in which they are tried; in
/// [20000, 32000), below the range from which systems give out ports by themselves.
std::vector<int> ports_of_job(std::string_view token, std::string_view job);

/// The secret of `job` where several jobs share one `token` file: a rank that comes to another
/// job's store is refused there.
std::string token_of_job(std::string_view token, std::string_view job);

/// The port among `ports` at which the job's own store answers; waits for it until
/// `options.timeout`. Throws TimeoutError then, CommError where the host does not resolve.
int find_port(const TcpStoreOptions& options, const std::vector<int>& ports);

struct Meeting {
  std::string host = {};
  int port = 0;  ///< 0: one of ports_of_job()
  std::string token = {};
  double timeout = kStoreTimeout;  ///< seconds
};

/// The store at `meeting`: rank 0 serves it on the address that its host's name has there, the
/// others look for it. Throws CommError where the host does not resolve, IoError where no port is
/// free, TimeoutError where nobody serves in time.
std::shared_ptr<Store> meet(const Place& place, const Meeting& meeting);

/// The store of a job on one host: a Unix socket that the job's name leads to.
std::shared_ptr<Store> meet_on_host(const Place& place, double timeout);

}  // namespace weft::inline v0::dist::detail
