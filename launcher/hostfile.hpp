// The hosts that `--hostfile` names.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include <weft/launcher/options.hpp>

namespace weft::inline v0::launcher {

inline constexpr size_t kMaxHosts = 4096;         ///< hosts in one file
inline constexpr size_t kMaxHostfile = 4u << 20;  ///< bytes of the file

struct HostEntry {
  std::string host;        ///< as ssh takes it: name, user@name, address
  int slots = 0;           ///< ranks there; 0: the file does not say
  std::string place = {};  ///< FILE:LINE:COLUMN of the host
  bool operator==(const HostEntry& other) const {
    return host == other.host && slots == other.slots;
  }
};

/// The hosts of a hostfile's `text`, in order. A line is `HOST`, `HOST slots=N` or `HOST:N`; an
/// IPv6 address stands in brackets where `:N` follows; `#` starts a comment, empty lines are
/// skipped. Throws ConfigError (exit code 2), as `FILE:LINE:COLUMN: …` with `file` for FILE, for a
/// malformed line, a host that stands twice, a file without hosts or above the limits.
std::vector<HostEntry> parse_hostfile(std::string_view text, std::string_view file);

/// The same for the file that the option `setting` names; throws LaunchError, with where it was
/// given, if it cannot be read.
std::vector<HostEntry> read_hostfile(const Setting& setting);

/// Those of `hosts` that `filter` names (`include`), or the others. A filter is
/// `HOST[:SLOT,...][@...]`, slots counting from 0, as DeepSpeed's are; a host of which only some
/// slots are taken has as many fewer. Throws LaunchError for a malformed filter, hosts and slots
/// that are not there, and where nobody is left.
std::vector<HostEntry> filter_hosts(const std::vector<HostEntry>& hosts, const Setting& filter,
                                    bool include);

/// The hosts of the job: those of --hostfile that --include and --exclude leave.
std::vector<HostEntry> hosts_of(const LaunchOptions& options);

}  // namespace weft::inline v0::launcher
