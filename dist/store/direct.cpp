#include <weft/dist/store/direct.hpp>

#include <poll.h>

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include <weft/core/base/check.hpp>
#include <weft/dist/store/auth.hpp>
#include <weft/dist/store/clock.hpp>
#include <weft/dist/store/host.hpp>
#include <weft/dist/store/socket.hpp>
#include <weft/dist/store/tcp_store.hpp>

namespace weft::inline v0::dist::detail {

using weft::detail::fail;

namespace {

constexpr int kPorts = 16;  // that a job may try
constexpr int kFirstPort = 20000, kPortRange = 12000;
constexpr double kConnect = 5;  // seconds for one attempt to connect
constexpr double kForget = 10;  // seconds until a port that somebody else holds is tried again
constexpr double kFirstPause = 0.01, kLongestPause = 0.25;  // seconds between rounds

/// A client whose process also hosts the server.
struct Hosted {
  StoreServer server;
  TcpStore client;
  Hosted(StoreServerOptions host, TcpStoreOptions options)
      : server(std::move(host)), client(at(std::move(options), server.port())) {}

  static TcpStoreOptions at(TcpStoreOptions options, int port) {
    options.port = port;
    return options;
  }
};

std::shared_ptr<Store> host_store(StoreServerOptions server, TcpStoreOptions client) {
  auto hosted = std::make_shared<Hosted>(std::move(server), std::move(client));
  return {hosted, &hosted->client};
}

/// Rank 0: the first of `ports` that is free.
std::shared_ptr<Store> serve(const TcpStoreOptions& options, const std::vector<int>& ports) {
  const std::string address = address_to_serve(options.host);
  TcpStoreOptions client = options;
  client.host = address;
  std::string refused;
  for (const int port : ports) {
    try {
      return host_store({.address = address, .port = port, .token = options.token}, client);
    } catch (const IoError& error) {
      refused = error.what();
    }
  }
  if (ports.size() == 1) throw IoError(refused);
  fail<IoError>("store: none of the job's {} ports is free; set MASTER_PORT: {}", ports.size(),
                refused);
}

/// Whether the job's store answers at this port; nothing where nobody listens there.
std::optional<bool> answers(TcpStoreOptions options, int port, std::string& error) {
  if (!connect_to(options.host, port, deadline_after(kConnect), error)) return std::nullopt;
  options.port = port;
  options.timeout = kConnect;
  try {
    const TcpStore probe(std::move(options));
    return true;
  } catch (const CommError& refused) {  // TimeoutError is one
    error = refused.what();
    return false;
  }
}

}  // namespace

std::vector<int> ports_of_job(std::string_view token, std::string_view job) {
  std::vector<int> ports;
  for (int round = 0; ports.size() < kPorts; ++round) {
    const std::string hash = hmac_sha256(token, {"port", std::to_string(round), job});
    const int port = kFirstPort + (static_cast<unsigned char>(hash[0]) * 256 +
                                   static_cast<unsigned char>(hash[1])) %
                                      kPortRange;
    if (std::find(ports.begin(), ports.end(), port) == ports.end()) ports.push_back(port);
  }
  return ports;
}

std::string token_of_job(std::string_view token, std::string_view job) {
  return to_hex(hmac_sha256(token, {"job", job}));
}

int find_port(const TcpStoreOptions& options, const std::vector<int>& ports) {
  const TimePoint start = Clock::now(), deadline = deadline_after(options.timeout);
  TimePoint forget = deadline_after(kForget);
  std::set<int> strangers;
  std::string error = "nobody listens";
  for (double pause = kFirstPause;; pause = std::min(2 * pause, kLongestPause)) {
    for (const int port : ports) {
      if (strangers.contains(port)) continue;
      const auto found = answers(options, port, error);
      if (found && *found) return port;
      if (found) strangers.insert(port);
    }
    if (Clock::now() >= forget) {
      strangers.clear();
      forget = deadline_after(kForget);
    }
    if (Clock::now() + to_duration(pause) >= deadline) break;
    ::poll(nullptr, 0, std::max(1, static_cast<int>(pause * 1e3)));
  }
  fail<TimeoutError>(
      "store: the job's store was not found on {} within {:.3g} s, at none of {} ports from {}: "
      "{}; does rank 0, or the launcher of node 0, run there, with the same WEFT_TOKEN_FILE?",
      options.host, seconds_since(start), ports.size(), ports.front(), error);
}

std::shared_ptr<Store> meet(const Place& place, const Meeting& meeting) {
  TcpStoreOptions options{.host = meeting.host,
                          .port = meeting.port,
                          .token = meeting.token,
                          .timeout = meeting.timeout,
                          .rank = place.rank};
  if (meeting.port != 0) {
    if (place.rank == 0) return serve(options, {meeting.port});
    return std::make_shared<TcpStore>(std::move(options));
  }
  const std::vector<int> ports = ports_of_job(meeting.token, place.job);
  options.token = token_of_job(meeting.token, place.job);
  if (place.rank == 0) return serve(options, ports);
  options.port = find_port(options, ports);
  return std::make_shared<TcpStore>(std::move(options));
}

std::shared_ptr<Store> meet_on_host(const Place& place, double timeout) {
  const std::string address = local_store_address(place.job);
  TcpStoreOptions options{.host = address, .timeout = timeout, .rank = place.rank};
  if (place.rank == 0) return host_store({.address = address}, std::move(options));
  return std::make_shared<TcpStore>(std::move(options));
}

}  // namespace weft::inline v0::dist::detail
