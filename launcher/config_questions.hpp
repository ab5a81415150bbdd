// What `launcher config` asks.
#pragma once

#include <weft/core/base/yaml.hpp>
#include <weft/launcher/asker.hpp>

namespace weft::inline v0::launcher {

/// Asks for everything that one set-up needs, and puts the answers into `document`, whose values
/// are the defaults where it has some. Throws as the asker does.
void ask_questions(Asker& asker, yaml::Node& document);

/// What `config default` writes, in an empty document.
void fill_with_defaults(yaml::Node& document, const std::string& mixed_precision);

}  // namespace weft::inline v0::launcher
