#include <weft/launcher/host_plan.hpp>

#include <weft/core/base/check.hpp>
#include <weft/dist/store/host.hpp>
#include <weft/launcher/error.hpp>
#include <weft/launcher/hosts.hpp>
#include <weft/launcher/program.hpp>
#include <weft/launcher/refusal.hpp>
#include <weft/launcher/scheduler.hpp>

namespace weft::inline v0::launcher {

namespace {

constexpr const char* kSsh = "ssh -o BatchMode=yes";

/// "name" of "user@name".
std::string bare(const std::string& host) { return host.substr(host.rfind('@') + 1); }

bool is_here(const std::string& host) {
  try {
    return dist::detail::is_this_host(bare(host));
  } catch (const CommError&) {
    return false;  // ssh may know the name from its own configuration
  }
}

bool is_asked_for(const LaunchOptions& options) {
  return options.rdzv_endpoint && !options.rdzv_endpoint->host.empty();
}

}  // namespace

HostPlan plan_hosts(const LaunchOptions& options) {
  HostPlan plan;
  plan.hosts = hosts_of(options);
  plan.ranks = ranks_of_hosts(plan.hosts, options);
  const auto count = static_cast<int>(plan.hosts.size());
  if (options.given("nnodes") && options.nnodes_max != count)
    refuse_setting(options.setting("nnodes"), " contradicts {}, which has {} hosts",
                   shown(options.setting("hostfile")), count);
  return plan;
}

std::string meeting_host(const LaunchOptions& options, const HostPlan& plan) {
  if (is_asked_for(options)) return options.rdzv_endpoint->host;
  for (const HostEntry& entry : plan.hosts)
    if (is_here(entry.host)) return bare(entry.host);
  return dist::detail::host_name();
}

std::string meeting_address(const LaunchOptions& options, const HostPlan& plan,
                            const std::string& host) {
  std::string address = dist::detail::address_to_serve(host);
  for (const HostEntry& entry : plan.hosts)
    if (!is_asked_for(options) && dist::detail::is_loopback(address) && !is_here(entry.host))
      throw LaunchError(kExitUsage,
                        fmt::format("{} is {} here, which {} cannot reach; give this host's "
                                    "address with --rdzv_endpoint",
                                    host, address, entry.host));
  return address;
}

std::vector<std::string> way_to(const LaunchOptions& options, const std::string& host) {
  const std::string self = own_command().front();
  const std::string given = options.setting("ssh").value;
  // A command of the user's is used for every host, this one included.
  if (given.empty() && is_here(host)) return {self, "remote"};
  std::vector<std::string> words;
  for (const std::string& word : split(given.empty() ? kSsh : given, ' '))
    if (!word.empty()) words.push_back(word);
  if (words.empty())
    refuse_setting(options.setting("ssh"), ": names no command; leave it out for {}", kSsh);
  words[0] = find_program(words[0]);
  words.push_back(host);
  words.push_back(fmt::format("exec {} remote", shell_quoted(self)));
  return words;
}

}  // namespace weft::inline v0::launcher
