// One launcher among those of several hosts.
#pragma once

#include <string>

#include <weft/launcher/options.hpp>

namespace weft::inline v0::launcher {

/// Where the hosts of a job meet; port 0: one that follows from the secret. Throws LaunchError
/// where nobody says, or MASTER_PORT is no port.
Endpoint find_endpoint(const LaunchOptions& options);

/// Throws LaunchError where num_processes is too small for one rank on each host.
void check_shares(const LaunchOptions& options);

/// Takes part in a job over several hosts; returns the launcher's exit code when the job is over.
/// Throws LaunchError where the endpoint or the secret is missing or wrong.
int launch_node(const LaunchOptions& options);

}  // namespace weft::inline v0::launcher
