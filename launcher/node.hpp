// One launcher among those of several hosts.
#pragma once

#include <string>

#include <weft/launcher/options.hpp>

namespace weft::inline v0::launcher {

/// Takes part in a job over several hosts; returns the launcher's exit code when the job is over.
/// Throws LaunchError where the endpoint or the secret is missing or wrong.
int launch_node(const LaunchOptions& options);

}  // namespace weft::inline v0::launcher
