// `launcher launch --dry_run`.
#pragma once

#include <string>

#include <weft/launcher/options.hpp>

namespace weft::inline v0::launcher {

/// What a launch with these options would run, rank by rank with its variables (without the secret;
/// "<at start>" for what is known only then), on this host and on those of a hostfile, with the ssh
/// or srun that would start launchers; and where each option's value comes from. Nothing is started
/// or connected to. Throws what launch would, as far as that does not take other hosts to find out.
std::string dry_run_text(const LaunchOptions& options);

}  // namespace weft::inline v0::launcher
