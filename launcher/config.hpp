// Configuration files: Accelerate's keys, and weft's own.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <weft/core/base/yaml.hpp>
#include <weft/launcher/options.hpp>

namespace weft::inline v0::launcher {

/// A key as a file writes it.
struct ConfigKey {
  std::string section = {};        ///< such as "fsdp_config"; empty: top level
  std::string name = {};           ///< with its prefix, such as "fsdp_version"
  const Option* option = nullptr;  ///< null: known to Accelerate, without a meaning here
  std::string full() const { return section.empty() ? name : section + "." + name; }
};

struct ConfigFile {
  std::string path = {};
  std::vector<Setting> settings = {};     ///< of Layer::config
  std::vector<std::string> ignored = {};  ///< keys without a meaning here, as "section.key"
};

/// The key `name` of `section`, whose prefix may be missing; nothing where it is unknown.
std::optional<ConfigKey> find_key(std::string_view section, std::string_view name);

/// Whether `name` is a section, such as "deepspeed_config".
bool is_section(std::string_view name);

/// The key that `text` means on a command line: "section.key", or a key alone, which is looked for
/// in the sections too. Throws LaunchError, with the nearest one, where there is none.
ConfigKey key_of(const std::string& text);

/// The same, but where the option of a later version has its place in a section, that one.
ConfigKey key_to_set(const std::string& text);

/// "unknown key …, did you mean …?"
std::string unknown_key_text(std::string_view section, const std::string& name);

/// Checks every key and value. Throws ConfigError.
ConfigFile read_config(const yaml::Node& root, const std::string& path);

/// The same for a text, for instance that of a fuzzer, and for the file at `path`. Throws
/// LaunchError where the file cannot be read.
ConfigFile parse_config(std::string_view text, const std::string& path);
ConfigFile load_config(const std::string& path);

/// $WEFT_HOME, else $XDG_CACHE_HOME/weft, else ~/.cache/weft; empty where no variable says.
std::string home_folder();

/// default_config.yaml in there; empty where there is no such folder's name.
std::string default_config_path();

/// The file that --config_file or WEFT_CONFIG_FILE names ("none": none), else the default one where
/// it exists. Throws as load_config.
std::optional<ConfigFile> find_config(const CommandLine& line);

/// One line about keys without a meaning here; empty where there are none.
std::string ignored_text(const ConfigFile& file);

/// find_config and resolve, the file's warning included.
LaunchOptions resolve_all(const CommandLine& line, bool needs_command = true);

/// Throws where the options ask for what this version cannot do: GPUs, ZeRO, precision and such.
/// The text names each option with its origin, and what to do.
void refuse_unsupported(const LaunchOptions& options);

}  // namespace weft::inline v0::launcher
