// Running under SLURM or Open MPI: what they say of the job's hosts goes before asking the user.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <weft/launcher/options.hpp>

namespace weft::inline v0::launcher {

/// `options` with hosts, host number, endpoint and name of the job filled in where this launcher is
/// one of several that srun or mpirun has started, one per host; as they are otherwise.
/// Throws LaunchError where several launchers were started on one host, where flags contradict the
/// environment (both are named), or where it does not tell where host 0 is.
LaunchOptions under_scheduler(LaunchOptions options);

/// The srun command that starts one launcher per host, where this launcher runs in an allocation of
/// SLURM but in none of its steps; nothing elsewhere, or where the options say how the hosts are
/// reached. Throws LaunchError for contradictions, IoError where srun is needed and /proc is
/// missing.
std::optional<std::vector<std::string>> srun_command(const LaunchOptions& options);

/// Becomes srun, which passes the job's secret on in the environment.
[[noreturn]] void become_srun(const std::vector<std::string>& command);

/// This launcher's path and arguments, as the system knows them. Throws LaunchError without /proc.
std::vector<std::string> own_command();

}  // namespace weft::inline v0::launcher
