#include <weft/launcher/dry_run.hpp>

#include <algorithm>
#include <string_view>
#include <vector>

#include <weft/core/base/check.hpp>
#include <weft/core/base/env.hpp>
#include <weft/launcher/affinity.hpp>
#include <weft/launcher/config_show.hpp>
#include <weft/launcher/cpus.hpp>
#include <weft/launcher/launch.hpp>
#include <weft/launcher/program.hpp>

namespace weft::inline v0::launcher {

namespace {

/// As a shell takes it for one word.
std::string quoted(const std::string& word) {
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("_./-+=:,@%<>").find(c) != std::string_view::npos;
  };
  if (!word.empty() && std::all_of(word.begin(), word.end(), plain)) return word;
  std::string text = "'";
  for (const char c : word) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return text + "'";
}

/// A variable as it is shown; empty for the secret.
std::string shown_variable(const std::string& entry) {
  const std::string name = entry.substr(0, entry.find('='));
  if (name == "WEFT_TOKEN") return {};
  for (const char* unknown : {"MASTER_PORT", "WEFT_STORE", "WEFT_JOB_ID", "WEFT_LAUNCHER_ID"})
    if (name == unknown) return name + "=<at start>";
  return quoted(entry);
}

std::string hosts_text(const LaunchOptions& options) {
  if (!options.hostfile.empty()) return fmt::format("on the hosts of {}", options.hostfile);
  if (options.nnodes_max == 1) return "on this host";
  const std::string nodes = options.nnodes_min == options.nnodes_max
                                ? fmt::format("{}", options.nnodes_max)
                                : fmt::format("{} to {}", options.nnodes_min, options.nnodes_max);
  return fmt::format("on this host, number {} of {}",
                     options.node_rank ? fmt::format("{}", *options.node_rank) : "?", nodes);
}

}  // namespace

std::string dry_run_text(const LaunchOptions& options) {
  find_program(options.command[0]);
  std::string command;
  for (const std::string& word : options.command) command += " " + quoted(word);
  std::string text = fmt::format("{} {} {}:\n", options.ranks,
                                 options.ranks == 1 ? "rank" : "ranks", hosts_text(options));
  const int threads = std::max(1, allowed_cpus() / options.ranks);
  const std::vector<Cpu> cpus = options.bind == Bind::none ? std::vector<Cpu>() : topology();
  std::vector<std::string> base;  // what is set here already goes before the rank's share
  if (const auto set = env::get("WEFT_NUM_THREADS")) base.push_back("WEFT_NUM_THREADS=" + *set);
  JobIdentity job;
  job.nodes = options.hostfile.empty() ? options.nnodes_max : 1;
  job.node_rank = options.node_rank.value_or(0);
  for (int node = 0; node < job.nodes; ++node) {
    const int share =
        options.total_ranks ? share_of(*options.total_ranks, job.nodes, node) : options.ranks;
    if (node < job.node_rank) job.first_rank += share;
    job.total_ranks += share;
  }
  job.host = options.rdzv_endpoint && !options.rdzv_endpoint->host.empty()
                 ? options.rdzv_endpoint->host
                 : "127.0.0.1";
  for (int rank = 0; rank < options.ranks; ++rank) {
    const Placement placement = place(options.bind, cpus, rank, options.ranks, threads);
    text += fmt::format("rank {}:", job.first_rank + rank);
    for (const std::string& entry : rank_environment(base, options, job, rank, placement.threads))
      if (const std::string shown = shown_variable(entry); !shown.empty()) text += " " + shown;
    text += command;
    if (!placement.cpus.empty()) text += fmt::format("  # {}", placement.text);
    text += "\n";
  }
  return text + "\nvalues and where they come from:\n" + show_resolved(options);
}

}  // namespace weft::inline v0::launcher
