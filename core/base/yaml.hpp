// Reading YAML, and with it JSON: a document whose every part knows its line and column. Not for
// users. For configuration files, so what no such file needs is refused: aliases, tags of other
// languages, several documents, keys that stand twice.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace weft::inline v0::yaml {

struct Place {
  int line = 1, column = 1;  ///< of the first character, counted from 1
};

struct Entry;

struct Node {
  enum class Kind { null, scalar, list, map };
  Kind kind = Kind::null;
  Place place = {};
  std::string text = {};       ///< scalar
  bool quoted = false;         ///< scalar: it stood in quotes, so "1" is no number to who cares
  std::vector<Node> items;     ///< list
  std::vector<Entry> entries;  ///< map, in the order of the file
};

struct Entry {
  std::string key;
  Place place;
  Node value;
};

struct Limits {
  size_t bytes = size_t{1} << 20;
  size_t depth = 32;  ///< lists and maps inside one another
  size_t nodes = 100'000;
};

/// The document in `text`; null where it is empty. Throws FormatError, its text being
/// `NAME:LINE:COLUMN: …`, with the code E_YAML_SYNTAX, E_YAML_ENCODING (not UTF-8, control
/// characters), E_YAML_LIMIT, E_YAML_DUPLICATE (a key that stands twice), E_YAML_ALIAS, E_YAML_TAG,
/// E_YAML_KEY (a key that is no plain text) or E_YAML_DOCUMENTS (more than one).
Node parse(std::string_view text, const std::string& name, const Limits& limits = {});

/// The same for the file at `path`. Throws IoError where it cannot be read.
Node read_file(const std::string& path, const Limits& limits = {});

/// "list", "map", "empty" or "text", for errors.
const char* kind_name(Node::Kind kind);

/// `text` as a YAML scalar that reads back as the same text: plain where that is safe, else quoted.
std::string scalar(std::string_view text);

}  // namespace weft::inline v0::yaml
