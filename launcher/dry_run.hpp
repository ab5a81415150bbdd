// `launcher launch --dry_run`.
#pragma once

#include <string>

#include <weft/launcher/options.hpp>

namespace weft::inline v0::launcher {

/// What a launch with these options would run on this host, rank by rank with its variables (the
/// secret and what is only known at the start left out), and where each option's value comes from.
/// Throws LaunchError where the program cannot be run.
std::string dry_run_text(const LaunchOptions& options);

}  // namespace weft::inline v0::launcher
