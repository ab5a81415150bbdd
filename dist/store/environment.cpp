#include <cstdlib>
#include <fstream>
#include <iterator>
#include <optional>
#include <utility>

#include <weft/core/base/check.hpp>
#include <weft/core/base/env.hpp>
#include <weft/dist/store/auth.hpp>
#include <weft/dist/store/socket.hpp>
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

std::optional<Endpoint> master_endpoint() {
  const auto host = env::get("MASTER_ADDR");
  const auto port = env::get_int("MASTER_PORT", 1, 65535);
  if (host.has_value() != port.has_value())
    fail<ArgumentError>(
        "environment: {} is set but {} is not; set both, or start the program with "
        "the launcher",
        host ? "MASTER_ADDR" : "MASTER_PORT", host ? "MASTER_PORT" : "MASTER_ADDR");
  if (!host) return std::nullopt;
  return Endpoint{*host, static_cast<int>(*port)};
}

std::string read_token() {
  if (auto token = env::get("WEFT_TOKEN")) {
    detail::check_token("WEFT_TOKEN", *token);
    return *std::move(token);
  }
  const auto path = env::get("WEFT_TOKEN_FILE");
  if (!path)
    fail<ArgumentError>(
        "environment: the job's store needs a secret; set WEFT_TOKEN_FILE to a file "
        "that holds the same random line on every host, or start the program with "
        "the launcher");
  std::ifstream file(*path, std::ios::binary);
  std::string token((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (!file) fail<IoError>("environment: WEFT_TOKEN_FILE={} cannot be read", *path);
  while (!token.empty() && (token.back() == '\n' || token.back() == '\r')) token.pop_back();
  detail::check_token("WEFT_TOKEN_FILE=" + *path, token);
  return token;
}

/// A client whose process also hosts the server: rank 0 where no launcher does.
struct Hosted {
  StoreServer server;
  TcpStore client;
  Hosted(StoreServerOptions host, TcpStoreOptions options)
      : server(std::move(host)), client(std::move(options)) {}
};

}  // namespace

std::shared_ptr<Store> connect_store_from_environment() {
  const auto address = env::get("WEFT_STORE");
  const auto master = master_endpoint();
  const double timeout =
      static_cast<double>(env::get_int("WEFT_JOIN_TIMEOUT", 1, 1'000'000).value_or(120));
  const int64_t world = env::get_int("WORLD_SIZE", 1, 1'000'000).value_or(1);
  const auto rank = env::get_int("RANK", 0, world - 1);

  if (!address && !master) {
    WEFT_CHECK(ArgumentError, world == 1,
               "environment: WORLD_SIZE={} but neither WEFT_STORE nor MASTER_ADDR and MASTER_PORT "
               "are set; start the program with the launcher",
               world);
    return std::make_shared<InProcessStore>(timeout);
  }
  if (address && master && parse_store_address(*address) != *master)
    fail<ArgumentError>(
        "environment: WEFT_STORE={} contradicts MASTER_ADDR={} and MASTER_PORT={}; "
        "unset one of them",
        *address, master->host, master->port);
  const Endpoint endpoint = address ? parse_store_address(*address) : *master;
  const std::string token = read_token();
  TcpStoreOptions options{.host = endpoint.host,
                          .port = endpoint.port,
                          .token = token,
                          .timeout = timeout,
                          .rank = static_cast<int>(rank.value_or(-1))};
  if (address || rank != 0) return std::make_shared<TcpStore>(std::move(options));
  auto hosted = std::make_shared<Hosted>(
      StoreServerOptions{.address = endpoint.host, .port = endpoint.port, .token = token},
      std::move(options));
  return {hosted, &hosted->client};
}

std::string rank_exit_key(int rank) { return fmt::format("rank_exit/{}", rank); }

}  // namespace weft::inline v0::dist
