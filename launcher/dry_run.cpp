#include <weft/launcher/dry_run.hpp>

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <optional>
#include <string_view>
#include <vector>

#include <weft/core/base/check.hpp>
#include <weft/core/base/env.hpp>
#include <weft/dist/store/direct.hpp>
#include <weft/dist/store/host.hpp>
#include <weft/dist/store/nodelist.hpp>
#include <weft/dist/store/place.hpp>
#include <weft/dist/store/socket.hpp>
#include <weft/launcher/affinity.hpp>
#include <weft/launcher/config_show.hpp>
#include <weft/launcher/cpus.hpp>
#include <weft/launcher/ending.hpp>
#include <weft/launcher/error.hpp>
#include <weft/launcher/host_plan.hpp>
#include <weft/launcher/hosts.hpp>
#include <weft/launcher/launch.hpp>
#include <weft/launcher/node.hpp>
#include <weft/launcher/program.hpp>
#include <weft/launcher/scheduler.hpp>

namespace weft::inline v0::launcher {

namespace {

constexpr const char* kAtStart = "<at start>";
constexpr int kUnknown = -1;  // threads on another host

/// As a shell takes it for one word.
std::string quoted(const std::string& word) {
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("_./-+=:,@%").find(c) != std::string_view::npos;
  };
  return !word.empty() && std::all_of(word.begin(), word.end(), plain) ? word : shell_quoted(word);
}

std::string quoted(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + quoted(word);
  return text;
}

/// What the ranks of one host find in their environment, as far as it is known.
struct HostView {
  LaunchOptions options = {};  ///< with this host's number of ranks
  JobIdentity job = {};        ///< port 0: known at the start
  bool here = true;            ///< this host's CPUs are the ones that are shared out
};

/// A variable as it is shown; empty for a secret.
std::string shown_variable(const std::string& entry, const HostView& view) {
  const size_t equals = entry.find('=');
  const std::string name = entry.substr(0, equals), value = entry.substr(equals + 1);
  if (name == "WEFT_TOKEN") return {};
  const bool by_port = name == "MASTER_PORT" || name == "WEFT_STORE";
  const bool share = (name == "WEFT_NUM_THREADS" || name == "OMP_NUM_THREADS") &&
                     value == std::to_string(kUnknown);
  if ((by_port && view.job.port == 0) || share ||
      ((name == "WEFT_JOB_ID" || name == "WEFT_LAUNCHER_ID") && value.empty()))
    return name + "=" + kAtStart;
  return quoted(entry);
}

/// The ranks' lines: variables, program, CPUs.
std::string ranks_text(const HostView& view) {
  const LaunchOptions& options = view.options;
  std::vector<std::string> base;  // what is set here already goes before the rank's share
  for (const char* name : {"WEFT_NUM_THREADS", "OMP_NUM_THREADS"})
    if (const auto set = env::get(name); set && view.here) base.push_back(name + ("=" + *set));
  if (!view.here && options.threads_per_process)
    base.push_back(fmt::format("WEFT_NUM_THREADS={}", *options.threads_per_process));
  const int threads = std::max(1, allowed_cpus() / options.ranks);
  const bool binds = view.here && options.bind != Bind::none;
  const std::vector<Cpu> cpus = binds ? topology() : std::vector<Cpu>();
  std::string text;
  for (int rank = 0; rank < options.ranks; ++rank) {
    const Placement placement =
        place(binds ? options.bind : Bind::none, cpus, rank, options.ranks, threads);
    text += fmt::format("rank {}:", view.job.first_rank + rank);
    const int share = view.here ? placement.threads : kUnknown;
    for (const std::string& entry : rank_environment(base, options, view.job, rank, share))
      if (const std::string shown = shown_variable(entry, view); !shown.empty())
        text += " " + shown;
    text += " " + quoted(options.command);
    if (!placement.cpus.empty()) text += fmt::format("  # {}", placement.text);
    text += "\n";
  }
  return text;
}

/// As the start would find it: the folder is made there, and nothing here.
void check_log_folder(const LaunchOptions& options) {
  if (options.log_dir.empty()) return;
  std::error_code error;
  std::filesystem::path there = std::filesystem::absolute(options.log_dir, error);
  while (!error && !std::filesystem::exists(there, error) && there.has_relative_path())
    there = there.parent_path();
  int problem = 0;
  if (!std::filesystem::is_directory(there, error))
    problem = ENOTDIR;
  else if (::access(there.c_str(), W_OK | X_OK) != 0)
    problem = errno;
  if (problem != 0)
    throw LaunchError(kExitUsage, fmt::format("--log_dir: cannot make the folder {}: {}",
                                              options.log_dir, std::strerror(problem)));
}

/// `own` without what asks for this text.
std::vector<std::string> without_dry_run(std::vector<std::string> own, size_t command) {
  const auto program = own.end() - static_cast<std::ptrdiff_t>(std::min(command, own.size()));
  const auto is_it = [](const std::string& word) {
    const std::string flag = word.substr(0, word.find('='));
    return flag.size() > 3 && flag.starts_with("--") &&
           find_option(flag.substr(2)) == &option_named("dry_run");
  };
  own.erase(std::remove_if(own.begin(), program, is_it), program);
  return own;
}

/// In an allocation, outside of its steps.
std::string allocation_text(const LaunchOptions& options, const std::vector<std::string>& srun) {
  std::vector<std::string> command = srun;
  command[0] = find_program(command[0]);
  // A batch script runs on a host of the job, which is as good as any for looking.
  if (env::get("SLURMD_NODENAME")) find_program(options.command[0]);
  std::string text = fmt::format("job {} of SLURM: a launcher on each host, started by\n  {}\n",
                                 env::get("SLURM_JOB_ID").value_or(""), quoted(command));
  const auto hosts = env::get("SLURM_JOB_NODELIST");
  if (hosts) text += "hosts:";
  if (hosts)
    for (const std::string& host :
         dist::detail::expand_nodelist(*hosts, "environment: SLURM_JOB_NODELIST"))
      text += " " + host;
  return text + (hosts ? "\n" : "");
}

/// Over ssh.
std::string hostfile_text(const LaunchOptions& options) {
  const HostPlan plan = plan_hosts(options);
  HostView view{.options = options};
  view.job.host = meeting_host(options, plan);
  try {
    view.job.host = meeting_address(options, plan, view.job.host);
  } catch (const CommError&) {  // a name that is resolved at the start, then perhaps
  }
  if (env::get("WEFT_TOKEN") || env::get("WEFT_TOKEN_FILE")) dist::detail::token_from_environment();
  view.job.port = options.rdzv_endpoint ? options.rdzv_endpoint->port : 0;
  view.job.id = options.rdzv_id;
  view.job.nodes = static_cast<int>(plan.hosts.size());
  for (const int ranks : plan.ranks) view.job.total_ranks += ranks;
  std::string text = fmt::format("{} on {} of {}:\n", counted(view.job.total_ranks, "rank"),
                                 counted(view.job.nodes, "host"), options.hostfile);
  for (size_t i = 0; i < plan.hosts.size(); ++i) {
    const std::vector<std::string> way = way_to(options, plan.hosts[i].host);
    view.here = way.size() == 2 && way[1] == "remote";
    view.options.ranks = plan.ranks[i];
    view.job.node_rank = static_cast<int>(i);
    text += fmt::format("host {}, {}: {}, started by: {}\n", i, plan.hosts[i].host,
                        counted(plan.ranks[i], "rank"), quoted(way));
    text += ranks_text(view);
    view.job.first_rank += plan.ranks[i];
  }
  return text;
}

/// "number 1 of 2", and what is taken for granted in the lines of the ranks.
std::string place_text(const LaunchOptions& options, const std::optional<int>& number) {
  const bool elastic = options.nnodes_min != options.nnodes_max;
  std::string text =
      fmt::format("on this host, number {} of {}", number ? std::to_string(*number) : "?",
                  elastic ? fmt::format("{} to {}", options.nnodes_min, options.nnodes_max)
                          : std::to_string(options.nnodes_max));
  if (!number) text += ", here as if it were 0";
  if (elastic) text += fmt::format(", here as if {} came", options.nnodes_max);
  if (!options.total_ranks)
    text += fmt::format(", here as if each had {}", counted(options.ranks, "rank"));
  return text;
}

/// One of several launchers that the user, srun or mpirun starts.
std::string node_text(const LaunchOptions& options) {
  const Endpoint endpoint = find_endpoint(options);
  find_program(options.command[0]);
  dist::detail::token_from_environment();
  check_shares(options);
  check_log_folder(options);
  std::optional<int> number = options.node_rank;
  HostView view{.options = options};
  view.job.host = endpoint.host;
  view.job.port = endpoint.port;
  view.job.id = options.rdzv_id;
  view.job.nodes = options.nnodes_max;
  if (number.value_or(0) == 0) try {
      if (dist::detail::is_this_host(endpoint.host)) {
        view.job.host = dist::detail::address_to_serve(endpoint.host);
        number = 0;
      }
    } catch (const CommError&) {  // a name that is resolved at the start, then perhaps
    }
  view.job.node_rank = number.value_or(0);
  for (int node = 0; node < view.job.nodes; ++node) {
    const int share =
        options.total_ranks ? share_of(*options.total_ranks, view.job.nodes, node) : options.ranks;
    if (node < view.job.node_rank) view.job.first_rank += share;
    view.job.total_ranks += share;
  }
  return fmt::format("{} {}:\n", counted(options.ranks, "rank"), place_text(options, number)) +
         ranks_text(view);
}

std::string local_text(const LaunchOptions& options) {
  find_program(options.command[0]);
  check_log_folder(options);
  HostView view{.options = options};
  view.job.host = "127.0.0.1";
  view.job.id = options.rdzv_id;
  return counted(options.ranks, "rank") + " on this host:\n" + ranks_text(view);
}

/// The values of `options` with those that srun or mpirun has said.
std::string values_text(const LaunchOptions& given, LaunchOptions options) {
  const auto mpi = dist::detail::mpi_place();
  const auto said = [&](const char* name, const std::string& value) {
    for (Setting& setting : options.settings)
      if (setting.option == &option_named(name) && setting.layer == Layer::initial) {
        setting.value = value;
        setting.layer = Layer::environment;
        setting.origin = mpi ? "Open MPI" : "SLURM";
      }
  };
  if (options.nnodes_max != given.nnodes_max) said("nnodes", std::to_string(options.nnodes_max));
  if (options.node_rank && options.node_rank != given.node_rank)
    said("node_rank", std::to_string(*options.node_rank));
  if (options.rdzv_id != given.rdzv_id) said("rdzv_id", options.rdzv_id);
  const std::string host = options.rdzv_endpoint ? options.rdzv_endpoint->host : "";
  if ((!given.rdzv_endpoint || given.rdzv_endpoint->host.empty()) && !host.empty())
    said("rdzv_endpoint", host);
  return "\nvalues and where they come from:\n" + show_resolved(options);
}

}  // namespace

std::string dry_run_text(const LaunchOptions& given) {
  // In the order of launch().
  if (const auto srun = srun_command(given))
    return allocation_text(given, without_dry_run(*srun, given.command.size())) +
           values_text(given, given);
  const LaunchOptions options = under_scheduler(given);
  std::string text;
  if (!options.hostfile.empty()) {
    find_program(options.command[0]);
    text = hostfile_text(options);
  } else {
    text = options.nnodes_max > 1 ? node_text(options) : local_text(options);
  }
  return text + values_text(given, options);
}

}  // namespace weft::inline v0::launcher
