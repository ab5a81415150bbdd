// JSON read from files that nobody vouches for: bounded depth, no repeated keys, linear time.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace weft::inline v0::detail {

/// A JSON value as plain data.
struct JsonTree {
  enum class Kind : uint8_t { null, boolean, whole, number, text, list, object };
  Kind kind = Kind::null;
  uint64_t whole = 0;  ///< a number without sign, point and exponent that fits
  std::string text;    ///< of a text, of a number as written, "true" or "false"
  struct Member;
  std::vector<Member> members;  ///< of a list with empty names

  bool is_whole() const { return kind == Kind::whole; }
  bool is_text() const { return kind == Kind::text; }
  bool is_list() const { return kind == Kind::list; }
  bool is_object() const { return kind == Kind::object; }
  /// The last member of that name; null where there is none.
  const JsonTree* find(std::string_view name) const;
  /// For error texts: JSON again, cut off where it is long.
  std::string describe() const;
};

struct JsonTree::Member {
  std::string name;
  JsonTree value;
};

/// Parses all of `text`. Throws FormatError with `code` naming `path`; E_DUP_KEY for a key that an
/// object has twice, which the outermost object may have where `allow_repeats` says so.
JsonTree parse_json(const std::string& path, std::string_view text, const char* code,
                    bool allow_repeats = false);

}  // namespace weft::inline v0::detail
