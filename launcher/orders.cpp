// What the launchers of a hostfile's hosts are told, and how.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <set>

#include <weft/core/base/check.hpp>
#include <weft/launcher/error.hpp>
#include <weft/launcher/hosts.hpp>
#include <weft/launcher/messages.hpp>
#include <weft/launcher/option_values.hpp>
#include <weft/launcher/refusal.hpp>

namespace weft::inline v0::launcher {

namespace {

constexpr size_t kHeader = 8;             // hexadecimal digits of the size
constexpr size_t kMaxOrders = 64u << 20;  // bytes
constexpr const char* kVersion = "orders 1";

std::string read_exactly(size_t count) {
  std::string bytes(count, '\0');
  for (size_t done = 0; done < count;) {
    const ssize_t got = ::read(0, bytes.data() + done, count - done);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0)
      throw LaunchError(kExitUsage, "launcher remote is started by launcher --hostfile alone");
    done += static_cast<size_t>(got);
  }
  return bytes;
}

}  // namespace

std::string pack_orders(const Orders& orders) {
  Fields fields = {kVersion, orders.token, orders.folder};
  fields.insert(fields.end(), orders.arguments.begin(), orders.arguments.end());
  const std::string body = pack(fields);
  return fmt::format("{:08x}", body.size()) + body;
}

Orders take_orders() {
  const std::string header = read_exactly(kHeader);
  size_t size = 0;
  const auto [stop, error] = std::from_chars(header.data(), header.data() + kHeader, size, 16);
  const bool fits = error == std::errc() && stop == header.data() + kHeader && size <= kMaxOrders;
  const auto fields = fits ? unpack(read_exactly(size), kMaxOrders) : std::nullopt;
  if (!fields || fields->size() < 3 || (*fields)[0] != kVersion)
    throw LaunchError(kExitUsage,
                      "the orders on standard input are of another version; install the same weft "
                      "on all hosts");
  Orders orders{(*fields)[1], (*fields)[2], {fields->begin() + 3, fields->end()}};
  ::setenv("WEFT_TOKEN", orders.token.c_str(), 1);
  if (::chdir(orders.folder.c_str()) != 0)
    throw LaunchError(kExitUsage,
                      fmt::format("cannot enter the working directory {}: {}; it has to "
                                  "exist on every host",
                                  orders.folder, std::strerror(errno)));
  return orders;
}

std::vector<int> ranks_of_hosts(const std::vector<HostEntry>& hosts, const LaunchOptions& options) {
  std::vector<int> ranks;
  int slots = 0;
  bool all = true;
  for (const HostEntry& host : hosts) {
    slots += host.slots;
    all = all && host.slots != 0;
  }
  const int nodes = static_cast<int>(hosts.size());
  if (options.total_ranks && slots != 0 && !(all && slots == *options.total_ranks))
    refuse_setting(options.setting("num_processes"), " contradicts {}, whose hosts have {} slots",
                   shown(options.setting("hostfile")), slots);
  if (options.given("nproc_per_node") && !options.total_ranks)
    for (const HostEntry& host : hosts)
      if (host.slots != 0 && host.slots != options.ranks)
        refuse_setting(options.setting("nproc_per_node"), " contradicts {}: {} slots={}",
                       host.place, host.host, host.slots);
  for (int node = 0; node < nodes; ++node) {
    const int given = hosts[static_cast<size_t>(node)].slots;
    const int share =
        options.total_ranks ? share_of(*options.total_ranks, nodes, node) : options.ranks;
    ranks.push_back(given != 0 ? given : share);
    if (ranks.back() < 1)
      refuse_setting(options.setting("num_processes"), ": fewer ranks than the {} hosts of {}",
                     nodes, shown(options.setting("hostfile")));
  }
  return ranks;
}

bool deals_ranks(const std::vector<HostEntry>& hosts, const LaunchOptions& options) {
  return options.total_ranks && std::all_of(hosts.begin(), hosts.end(),
                                            [](const HostEntry& host) { return host.slots == 0; });
}

std::vector<std::string> node_arguments(const LaunchOptions& options, int nodes, int node,
                                        int ranks, const std::string& endpoint,
                                        const std::string& job_id) {
  // What is said of hosts anew, or belongs to the launcher that the user started.
  static const std::set<std::string> kOwn = {
      "nproc_per_node",    "num_processes", "nnodes",
      "node_rank",         "rdzv_endpoint", "main_process_ip",
      "main_process_port", "rdzv_id",       "hostfile",
      "include",           "exclude",       "ssh",
      "standalone",        "config_file",   "env",
      "dry_run",           "max_restarts"};
  std::vector<std::string> arguments;
  for (const Setting& setting : options.settings) {
    const std::string name = name_of(*setting.option);
    if (setting.layer == Layer::initial || kOwn.contains(name)) continue;
    if (setting.option->kind == Kind::flag) {
      if (read_flag(setting)) arguments.push_back("--" + name);
    } else {
      arguments.push_back("--" + name);
      arguments.push_back(setting.value);
    }
  }
  for (const std::string& entry : options.environment) {
    arguments.push_back("--env");
    arguments.push_back(entry);
  }
  const std::string range = options.nnodes_min < options.nnodes_max
                                ? fmt::format("{}:{}", options.nnodes_min, nodes)
                                : std::to_string(nodes);
  for (const std::string& word :
       {std::string("--nnodes"), range, std::string("--node_rank"), std::to_string(node),
        std::string("--rdzv_endpoint"), endpoint, std::string("--rdzv_id"), job_id,
        std::string(ranks != 0 ? "--nproc_per_node" : "--num_processes"),
        std::to_string(ranks != 0 ? ranks : options.total_ranks.value_or(1)), std::string("--")})
    arguments.push_back(word);
  arguments.insert(arguments.end(), options.command.begin(), options.command.end());
  return arguments;
}

std::string shell_quoted(const std::string& word) {
  std::string quoted = "'";
  for (const char c : word) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

}  // namespace weft::inline v0::launcher
