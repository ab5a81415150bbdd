// Hosts' names and which of their addresses are this host's own.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace weft::inline v0::dist::detail {

/// The addresses that `host` resolves to, in numbers, the preferred one first.
/// Throws CommError where it does not resolve.
std::vector<std::string> addresses_of(const std::string& host);

/// Whether a socket of this host may be bound to `address` (numeric, without a zone).
bool is_own_address(const std::string& address);

/// Whether `address` (numeric) is one that only this host can reach.
bool is_loopback(std::string_view address);

/// Whether `host` is a name or an address of this host.
/// Throws CommError where it does not resolve.
bool is_this_host(const std::string& host);

/// The one address of this host that a server is to be bound to so that other hosts find it under
/// the name `host`. Throws CommError where `host` does not resolve, and ArgumentError where it is
/// another host, or a name that no other host would understand (Debian gives a host's own name
/// 127.0.1.1 in /etc/hosts) while there are several addresses to choose from.
std::string address_to_serve(const std::string& host);

/// The name of this host.
std::string host_name();

/// A text that processes have in common when they run on one host under one name: name and boot of
/// the host, the network namespace, and what SLURM calls it.
std::string host_identity();

}  // namespace weft::inline v0::dist::detail
