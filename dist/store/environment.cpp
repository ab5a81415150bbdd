#include <sys/stat.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <optional>
#include <utility>

#include <weft/core/base/check.hpp>
#include <weft/core/base/env.hpp>
#include <weft/dist/store/auth.hpp>
#include <weft/dist/store/direct.hpp>
#include <weft/dist/store/host.hpp>
#include <weft/dist/store/place.hpp>
#include <weft/dist/store/tcp_store.hpp>

namespace weft::inline v0::dist {

using weft::detail::fail;

namespace {

struct Endpoint {
  std::string host;
  int port = 0;
  bool operator==(const Endpoint&) const = default;
};

/// tcp://HOST:PORT or HOST:PORT, an IPv6 address in brackets.
Endpoint parse_store_address(const std::string& text) {
  std::string_view rest = text;
  if (rest.starts_with("tcp://")) rest.remove_prefix(6);
  const size_t colon = rest.rfind(':');
  int64_t port = 0;
  Endpoint endpoint;
  if (colon != std::string_view::npos && colon > 0) {
    const std::string digits(rest.substr(colon + 1));
    char* end = nullptr;
    port = digits.empty() ? 0 : std::strtol(digits.c_str(), &end, 10);
    if (end != nullptr && *end != '\0') port = 0;
    std::string_view host = rest.substr(0, colon);
    if (host.size() > 2 && host.front() == '[' && host.back() == ']')
      host = host.substr(1, host.size() - 2);
    endpoint.host = host;
  }
  if (endpoint.host.empty() || port < 1 || port > 65535)
    fail<ArgumentError>("environment: WEFT_STORE={} is no address; write tcp://HOST:PORT", text);
  endpoint.port = static_cast<int>(port);
  return endpoint;
}

/// MASTER_ADDR and MASTER_PORT, where both are set.
std::optional<Endpoint> master_endpoint() {
  const auto host = env::get("MASTER_ADDR");
  const auto port = env::get_int("MASTER_PORT", 1, 65535);
  if (!host || !port) return std::nullopt;
  return Endpoint{*host, static_cast<int>(*port)};
}

/// Where the place comes from variables set by hand, half an address leaves rank 0 unknown.
void check_master_is_whole(const Place& place) {
  const bool host = env::get("MASTER_ADDR").has_value(), port = env::get("MASTER_PORT").has_value();
  if (host != port && (place.source == "environment" || place.source == "alone"))
    fail<ArgumentError>(
        "environment: {} is set but {} is not; set both, or start the program with "
        "the launcher",
        host ? "MASTER_ADDR" : "MASTER_PORT", host ? "MASTER_PORT" : "MASTER_ADDR");
}

bool has_token() { return env::get("WEFT_TOKEN") || env::get("WEFT_TOKEN_FILE"); }

/// Whether all ranks are surely on this host. Variables set by hand without LOCAL_WORLD_SIZE only
/// suggest it.
bool surely_one_host(const Place& place) {
  if (!place.one_host()) return false;
  if (place.source != "environment" || env::get("LOCAL_WORLD_SIZE")) return true;
  const auto host = env::get("MASTER_ADDR");
  return !host || *host == "localhost" || detail::is_loopback(*host);
}

std::shared_ptr<Store> connect_to_address(const std::string& address, int rank, double timeout) {
  const int attempt = static_cast<int>(env::get_int("RESTART_COUNT", 0, 1'000'000).value_or(-1));
  if (address.starts_with("unix:"))
    return std::make_shared<TcpStore>(
        TcpStoreOptions{.host = address, .timeout = timeout, .rank = rank, .epoch = attempt});
  const Endpoint endpoint = parse_store_address(address);
  return std::make_shared<TcpStore>(TcpStoreOptions{.host = endpoint.host,
                                                    .port = endpoint.port,
                                                    .token = detail::token_from_environment(),
                                                    .timeout = timeout,
                                                    .rank = rank,
                                                    .epoch = attempt});
}

/// Without a launcher: see docs/launching.md, "Without the launcher".
std::shared_ptr<Store> connect_directly(const Place& place, double timeout) {
  // torchrun's own store listens at MASTER_PORT, in another language.
  const bool taken = env::get_flag("TORCHELASTIC_USE_AGENT_STORE").value_or(false);
  const auto master = taken ? std::nullopt : master_endpoint();
  const bool tcp_asked = has_token() && master;
  if (surely_one_host(place) && !tcp_asked && !place.job.empty())
    return detail::meet_on_host(place, timeout);
  if (!master && place.job.empty())
    fail<ArgumentError>(
        "environment: WORLD_SIZE={} but nothing says where the ranks meet; start the program with "
        "the launcher, or give all ranks the same WEFT_JOB_ID (on one host) or MASTER_ADDR and "
        "MASTER_PORT",
        place.size);
  if (!master && place.first_host.empty())
    fail<ArgumentError>(
        "environment: {} started ranks on several hosts but does not tell where rank 0 is; set "
        "MASTER_ADDR to its host (mpirun -x MASTER_ADDR=HOST)",
        place.source);
  return detail::meet(place, {.host = master ? master->host : place.first_host,
                              .port = master ? master->port : 0,
                              .token = detail::token_from_environment(),
                              .timeout = timeout});
}

}  // namespace

std::string detail::token_from_environment() {
  if (auto token = env::get("WEFT_TOKEN")) {
    detail::check_token("WEFT_TOKEN", *token);
    return *std::move(token);
  }
  const auto path = env::get("WEFT_TOKEN_FILE");
  if (!path)
    fail<ArgumentError>(
        "environment: the job's store needs a secret; set WEFT_TOKEN_FILE to a file of mode 600 "
        "that holds the same random line on every host (head -c 32 /dev/urandom | base64), or "
        "start "
        "the job with launcher --hostfile, which makes one");
  struct stat info {};
  if (::stat(path->c_str(), &info) == 0 && (info.st_mode & (S_IRGRP | S_IROTH)) != 0)
    fail<ArgumentError>(
        "environment: WEFT_TOKEN_FILE={} has mode {:04o}, so others can read the secret; run chmod "
        "600 {}",
        *path, info.st_mode & 07777u, *path);
  std::ifstream file(*path, std::ios::binary);
  std::string token((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (!file) fail<IoError>("environment: WEFT_TOKEN_FILE={} cannot be read", *path);
  while (!token.empty() && (token.back() == '\n' || token.back() == '\r')) token.pop_back();
  detail::check_token("WEFT_TOKEN_FILE=" + *path, token);
  return token;
}

std::shared_ptr<Store> connect_store_from_environment() {
  const auto address = env::get("WEFT_STORE");
  const double timeout =
      static_cast<double>(env::get_int("WEFT_JOIN_TIMEOUT", 1, 1'000'000).value_or(120));
  const Place place = place_from_environment();
  check_master_is_whole(place);
  const auto master = master_endpoint();
  if (address && master && !address->starts_with("unix:") &&
      parse_store_address(*address) != *master)
    fail<ArgumentError>(
        "environment: WEFT_STORE={} contradicts MASTER_ADDR={} and MASTER_PORT={}; "
        "unset one of them",
        *address, master->host, master->port);
  if (address) {
    auto store = connect_to_address(*address, place.rank, timeout);
    const auto attempt = env::get_int("RESTART_COUNT", 0, 1'000'000);
    if (!attempt) return store;
    return std::make_shared<PrefixStore>(attempt_prefix(static_cast<int>(*attempt)), store);
  }
  if (place.size == 1) return std::make_shared<InProcessStore>(timeout);
  return connect_directly(place, timeout);
}

std::string attempt_prefix(int attempt) { return fmt::format("attempt/{}", attempt); }

std::string rank_exit_key(int rank) { return fmt::format("rank_exit/{}", rank); }

}  // namespace weft::inline v0::dist
