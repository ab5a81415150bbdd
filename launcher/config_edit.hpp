// Changing a configuration file without touching what its author wrote around the values.
#pragma once

#include <optional>
#include <string>

#include <weft/core/base/yaml.hpp>

namespace weft::inline v0::launcher {

/// `text`, a YAML file whose document is `before`, changed so that its document is `after`:
/// comments, order and lines that need no change stay as they are. Entries of `after` are those of
/// `before` that begin at the same place, whatever their keys are now, or new where that is line 0.
/// Nothing where the text is written so that this cannot be done line by line, such as a map in
/// braces.
std::optional<std::string> edited(const std::string& text, const yaml::Node& before,
                                  const yaml::Node& after);

}  // namespace weft::inline v0::launcher
