#include <weft/dist/store/host.hpp>

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <fstream>
#include <memory>

#include <weft/core/base/check.hpp>
#include <weft/core/base/env.hpp>
#include <weft/dist/store/socket.hpp>

namespace weft::inline v0::dist::detail {

using weft::detail::fail;

namespace {

struct FreeAddresses {
  void operator()(addrinfo* list) const { freeaddrinfo(list); }
};
struct FreeInterfaces {
  void operator()(ifaddrs* list) const { freeifaddrs(list); }
};

// What Debian's /etc/hosts calls the host itself.
constexpr std::string_view kOwnNameOnly = "127.0.1.1";

std::string numeric(const sockaddr* address, socklen_t size) {
  char host[NI_MAXHOST] = "";
  getnameinfo(address, size, host, sizeof host, nullptr, 0, NI_NUMERICHOST);
  return host;
}

/// The addresses of this host's interfaces that other hosts can reach.
std::vector<std::string> reachable_addresses() {
  ifaddrs* list = nullptr;
  std::vector<std::string> found;
  if (getifaddrs(&list) != 0) return found;
  const std::unique_ptr<ifaddrs, FreeInterfaces> owner(list);
  for (const ifaddrs* at = list; at != nullptr; at = at->ifa_next) {
    if (at->ifa_addr == nullptr || (at->ifa_flags & IFF_UP) == 0) continue;
    if (at->ifa_addr->sa_family != AF_INET || (at->ifa_flags & IFF_LOOPBACK) != 0) continue;
    found.push_back(numeric(at->ifa_addr, sizeof(sockaddr_in)));
  }
  return found;
}

std::string first_line(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

}  // namespace

std::vector<std::string> addresses_of(const std::string& host) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  if (const int error = getaddrinfo(host.c_str(), nullptr, &hints, &list); error != 0)
    fail<CommError>("cannot resolve the host '{}': {}", host, gai_strerror(error));
  const std::unique_ptr<addrinfo, FreeAddresses> owner(list);
  std::vector<std::string> found;
  for (const addrinfo* at = list; at != nullptr; at = at->ai_next) {
    std::string address = numeric(at->ai_addr, at->ai_addrlen);
    if (std::find(found.begin(), found.end(), address) == found.end())
      found.push_back(std::move(address));
  }
  return found;
}

bool is_own_address(const std::string& address) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICHOST;
  addrinfo* list = nullptr;
  if (getaddrinfo(address.c_str(), "0", &hints, &list) != 0) return false;
  const std::unique_ptr<addrinfo, FreeAddresses> owner(list);
  const Fd fd(::socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  return fd && ::bind(fd.get(), list->ai_addr, list->ai_addrlen) == 0;
}

bool is_loopback(std::string_view address) {
  return address.starts_with("127.") || address == "::1";
}

bool is_this_host(const std::string& host) {
  const std::vector<std::string> all = addresses_of(host);
  return std::any_of(all.begin(), all.end(), is_own_address);
}

std::string address_to_serve(const std::string& host) {
  const std::vector<std::string> all = addresses_of(host);
  const auto own = std::find_if(all.begin(), all.end(), is_own_address);
  if (own == all.end())
    fail<ArgumentError>("{} ({}) is not an address of this host, {}", host, all.front(),
                        host_name());
  if (*own != kOwnNameOnly || host == kOwnNameOnly) return *own;
  const std::vector<std::string> reachable = reachable_addresses();
  if (reachable.size() == 1) return reachable.front();
  std::string choice;
  for (const std::string& address : reachable)
    choice += (choice.empty() ? "; write one of its addresses: " : ", ") + address;
  fail<ArgumentError>("{} is {} on this host, which other hosts cannot reach{}", host, *own,
                      choice);
}

std::string host_name() {
  char name[HOST_NAME_MAX + 1] = "";
  ::gethostname(name, sizeof name - 1);
  return name;
}

std::string host_identity() {
  struct stat network {};
  ::stat("/proc/self/ns/net", &network);
  return fmt::format("{} {} {} {}", host_name(), first_line("/proc/sys/kernel/random/boot_id"),
                     network.st_ino, env::get("SLURM_NODEID").value_or(""));
}

}  // namespace weft::inline v0::dist::detail
