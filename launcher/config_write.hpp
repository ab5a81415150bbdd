// Changing and writing configuration files.
#pragma once

#include <string>

#include <weft/core/base/yaml.hpp>
#include <weft/launcher/config.hpp>

namespace weft::inline v0::launcher {

/// A file as it stands, with what is in it unknown to nobody (see read_config); an empty map where
/// there is none and `must_exist` is false. Throws ConfigError and LaunchError.
yaml::Node load_document(const std::string& path, bool must_exist);

/// Sets `key` of `document` to `value`, as it would stand in the file ("" and "null" remove it),
/// and removes what else stands there for the same option. Throws LaunchError where the value is
/// not the key's.
void set_value(yaml::Node& document, const ConfigKey& key, const std::string& value);

/// In today's form: legacy keys under their new names, prefixes in place, sections without keys and
/// keys without values left out. Returns the names of what changed.
std::vector<std::string> modernise(yaml::Node& document);

/// As YAML, or as JSON where `path` ends in .json.
std::string emit(const yaml::Node& document, const std::string& path);

/// Puts `text` at `path`: a temporary file beside it takes its name when it is whole and on disk,
/// so that a reader sees the old file or the new one. Makes the folder; keeps the mode, and a link.
/// Throws LaunchError.
void write_atomically(const std::string& path, const std::string& text);

}  // namespace weft::inline v0::launcher
