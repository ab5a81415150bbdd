// `--hostfile`: one launcher on each host, started through ssh by the one that the user started.
#pragma once

#include <string>
#include <vector>

#include <weft/launcher/hostfile.hpp>
#include <weft/launcher/options.hpp>

namespace weft::inline v0::launcher {

/// Starts a launcher on every host of the hostfile and returns the job's exit code. The secret, the
/// working directory and all arguments go through ssh's standard input; when that closes, the
/// launcher there ends its ranks. Throws LaunchError where file and options do not fit.
int launch_over_ssh(const LaunchOptions& options);

/// What a launcher that was started so reads from its standard input.
struct Orders {
  std::string token = {};
  std::string folder = {};                  ///< working directory
  std::vector<std::string> arguments = {};  ///< of `launcher launch`
};
std::string pack_orders(const Orders& orders);

/// Reads the orders from descriptor 0 and does as they say with folder and secret. Throws
/// LaunchError where they make no sense, or the folder cannot be entered.
Orders take_orders();

/// The ranks of each host: its slots, else its share of num_processes, else as many as `-n` says.
/// Throws LaunchError where the numbers contradict each other.
std::vector<int> ranks_of_hosts(const std::vector<HostEntry>& hosts, const LaunchOptions& options);

/// Whether the ranks that num_processes names are dealt out among the hosts that take part; where
/// the file has slots, each host starts its own number of them.
bool deals_ranks(const std::vector<HostEntry>& hosts, const LaunchOptions& options);

/// The arguments of `launcher launch` for host `node`, with all that was said by flag, variable or
/// file of things other than hosts. `ranks`: of this host; 0: its share of num_processes.
std::vector<std::string> node_arguments(const LaunchOptions& options, int nodes, int node,
                                        int ranks, const std::string& endpoint,
                                        const std::string& job_id);

/// `word` for a POSIX shell.
std::string shell_quoted(const std::string& word);

}  // namespace weft::inline v0::launcher
