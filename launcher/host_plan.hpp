// What a hostfile and the options make of a job, before anything is started.
#pragma once

#include <string>
#include <vector>

#include <weft/launcher/hostfile.hpp>
#include <weft/launcher/options.hpp>

namespace weft::inline v0::launcher {

struct HostPlan {
  std::vector<HostEntry> hosts = {};
  std::vector<int> ranks = {};  ///< of each host
};

/// Reads the hostfile and deals out the ranks. Throws LaunchError where it cannot be read, or
/// contradicts the options, and ConfigError for what is wrong in it.
HostPlan plan_hosts(const LaunchOptions& options);

/// The name under which the other hosts are to find this one.
std::string meeting_host(const LaunchOptions& options, const HostPlan& plan);

/// The address of this host that its store is to be bound to so that the other hosts find it under
/// the name `host`. Throws LaunchError where one of them cannot, else as address_to_serve.
std::string meeting_address(const LaunchOptions& options, const HostPlan& plan,
                            const std::string& host);

/// What is executed to start a launcher on `host`. Throws LaunchError where there is no ssh.
std::vector<std::string> way_to(const LaunchOptions& options, const std::string& host);

}  // namespace weft::inline v0::launcher
