// Choosing among the hosts of a hostfile.
#include <algorithm>
#include <optional>
#include <set>

#include <weft/core/base/check.hpp>
#include <weft/launcher/hostfile.hpp>
#include <weft/launcher/messages.hpp>
#include <weft/launcher/option_table.hpp>
#include <weft/launcher/refusal.hpp>

namespace weft::inline v0::launcher {

namespace {

/// The slots that `part`, `HOST:A,B`, names of `host`; none: it names the host as a whole.
std::optional<std::set<int>> named_slots(const Setting& filter, const std::string& part,
                                         const HostEntry& host) {
  if (part == host.host) return std::nullopt;
  std::set<int> slots;
  for (const std::string& word : split(part.substr(host.host.size() + 1), ',')) {
    const auto slot = to_int(word);
    if (!slot || *slot < 0 || *slot >= host.slots)
      refuse_setting(filter, ": '{}' is no slot of {}, which has {} ({})", word, host.host,
                     host.slots == 0 ? "none" : fmt::format("0 to {}", host.slots - 1), host.place);
    if (!slots.insert(*slot).second)
      refuse_setting(filter, ": slot {} of {} is named twice", *slot, host.host);
  }
  return slots;
}

}  // namespace

std::vector<HostEntry> filter_hosts(const std::vector<HostEntry>& hosts, const Setting& filter,
                                    bool include) {
  std::vector<HostEntry> left = include ? std::vector<HostEntry>() : hosts;
  std::set<std::string> named;
  for (const std::string& part : split(filter.value, '@')) {
    // The name first: an IPv6 address has colons of its own.
    const auto host = std::find_if(hosts.begin(), hosts.end(), [&](const HostEntry& entry) {
      return part == entry.host || part.starts_with(entry.host + ":");
    });
    if (host == hosts.end())
      refuse_setting(filter, ": no host '{}' in the hostfile; HOST@HOST:0,1 is expected", part);
    if (!named.insert(host->host).second) refuse_setting(filter, ": {} is named twice", host->host);
    const auto slots = named_slots(filter, part, *host);
    if (include) {
      left.push_back(*host);
      if (slots) left.back().slots = static_cast<int>(slots->size());
      continue;
    }
    const auto entry = std::find(left.begin(), left.end(), *host);
    if (slots) entry->slots -= static_cast<int>(slots->size());
    if (!slots || entry->slots == 0) left.erase(entry);
  }
  if (left.empty()) refuse_setting(filter, ": leaves no host of the hostfile");
  return left;
}

std::vector<HostEntry> hosts_of(const LaunchOptions& options) {
  std::vector<HostEntry> hosts = read_hostfile(options.setting("hostfile"));
  for (const bool include : {true, false})
    if (const Setting& filter = options.setting(include ? "include" : "exclude");
        !filter.value.empty())
      hosts = filter_hosts(hosts, filter, include);
  return hosts;
}

}  // namespace weft::inline v0::launcher
