// Reading the texts of options by their kind.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <weft/launcher/options.hpp>

namespace weft::inline v0::launcher {

/// Each throws LaunchError (exit code 2) with the setting's origin and what is expected.
bool read_flag(const Setting& setting);
int64_t read_integer(const Setting& setting);
double read_real(const Setting& setting);
double read_seconds(const Setting& setting);
std::optional<int> read_ranks(const Setting& setting);  ///< none: auto
std::pair<int, int> read_nodes(const Setting& setting);
Endpoint read_endpoint(const Setting& setting);
StreamMask read_mask(const Setting& setting);
std::vector<int> read_integers(const Setting& setting);
std::optional<std::vector<int>> read_gpus(const Setting& setting);  ///< none: all
std::string read_choice(const Setting& setting);                    ///< as the table spells it
std::string read_variable(const Setting& setting);                  ///< NAME=VALUE

/// Reads the value by its option's kind and drops it: throws where it cannot be read.
void check_value(const Setting& setting);

/// What stands between `${` and `}` in the option log_line_prefix_template; role_name is
/// torchrun's.
inline constexpr std::string_view kPrefixNames[] = {"rank", "local_rank", "hostname", "job_id",
                                                    "role_name"};

/// "true", "yes", "on", "1" and their opposites, in whatever case.
std::optional<bool> truth_of(std::string_view text);

}  // namespace weft::inline v0::launcher
