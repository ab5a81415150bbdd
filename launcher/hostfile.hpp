// The hosts that `--hostfile` names.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace weft::inline v0::launcher {

inline constexpr size_t kMaxHosts = 4096;         ///< hosts in one file
inline constexpr size_t kMaxHostfile = 4u << 20;  ///< bytes of the file

struct HostEntry {
  std::string host;  ///< as ssh takes it: name, user@name, address
  int slots = 0;     ///< ranks there; 0: the file does not say
  bool operator==(const HostEntry&) const = default;
};

/// The hosts of a hostfile's `text`, in order. A line is `HOST`, `HOST slots=N` or `HOST:N`; an
/// IPv6 address stands in brackets where `:N` follows; `#` starts a comment, empty lines are
/// skipped. Throws ConfigError (exit code 2), as `FILE:LINE:COLUMN: …` with `file` for FILE, for a
/// malformed line, a host that stands twice, a file without hosts or above the limits.
std::vector<HostEntry> parse_hostfile(std::string_view text, std::string_view file);

/// The same for the file at `path`; throws LaunchError where it cannot be read.
std::vector<HostEntry> read_hostfile(const std::string& path);

}  // namespace weft::inline v0::launcher
