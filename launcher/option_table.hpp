// The one table of launch options: spellings, variables, configuration keys, values, help.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace weft::inline v0::launcher {

enum class Section {
  processes,
  hosts,
  watch,
  output,
  training,
  zero,
  fsdp,
  parallel,
  megatron,
  fp8,
  general,
  idle  ///< of Accelerate or torchrun, without a meaning here
};

enum class Kind {
  flag,     ///< true where it is named; in variables and files a boolean
  boolean,  ///< takes true or false
  integer,
  real,
  seconds,   ///< above 0
  period,    ///< seconds, 0 allowed
  ranks,     ///< a number of ranks, or auto
  nodes,     ///< A or MIN:MAX
  endpoint,  ///< HOST[:PORT]
  choice,
  mask,      ///< 0..3 or RANK:MASK,...
  integers,  ///< A,B,...
  gpus,      ///< all or A,B,...
  text,
  variable,  ///< NAME or NAME=VALUE, may stand several times
};

struct Option {
  /// Without dashes and joined by `_`, the first being its name; a single letter is a short flag.
  const char* names;
  Kind kind;
  Section section;
  const char* value;    ///< how its value is called in the help
  const char* range;    ///< choice: a|b|c; integer and real: LOW..HIGH
  const char* initial;  ///< the default as it is shown; empty: none
  const char* help;
  /// Keys in the configuration file with dots between levels; null: its name; empty: none.
  const char* keys = nullptr;
  /// Environment variables, the first going before the rest; null: WEFT_NAME; empty: none.
  const char* variables = nullptr;
  /// Not null: a feature of a later version, which this text names; values that `neutral` lists
  /// (a|b) ask for nothing and pass.
  const char* later = nullptr;
  const char* neutral = "";
};

/// All options, in the order of the help.
std::span<const Option> option_table();

/// The title of a section of the help.
const char* title_of(Section section);

/// The words of `names`, `keys` (default: the name) and `variables` (default: WEFT_NAME).
std::vector<std::string> names_of(const Option& option);
std::vector<std::string> keys_of(const Option& option);
std::vector<std::string> variables_of(const Option& option);
std::string name_of(const Option& option);

/// The option that `spelling` stands for, in either spelling and without dashes in front; null
/// where there is none.
const Option* find_option(std::string_view spelling);

/// The option with this name. The name must exist.
const Option& option_named(std::string_view name);

/// The parts of `text` between separators; none for an empty text.
std::vector<std::string> split(std::string_view text, char separator);

}  // namespace weft::inline v0::launcher
