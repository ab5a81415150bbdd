// The content of a store: what the server and the in-process store have in common. Not thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace weft::inline v0::dist::detail {

class StoreTable {
 public:
  /// The value of `key`, or nullptr.
  const std::string* find(std::string_view key) const;

  /// Those of `keys` that do not exist.
  std::vector<std::string> missing(const std::vector<std::string>& keys) const;

  /// Throws CommError where the store is full.
  void set(std::string_view key, std::string_view value);

  /// As set(), for the few keys of the store itself, which a full store takes as well.
  void set_own(const std::string& key, std::string value);

  /// Throws ArgumentError where the value is no number or the sum overflows.
  int64_t add(std::string_view key, int64_t amount);

  std::string compare_set(std::string_view key, std::string_view expected,
                          std::string_view desired);
  bool erase(std::string_view key);

  /// Removes the keys that begin with `prefix`; how many.
  int64_t erase_prefix(std::string_view prefix);

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };

  std::unordered_map<std::string, std::string, Hash, std::equal_to<>> values_;
  size_t bytes_ = 0;
};

/// "'a', 'b', 'c' and 4 more"
std::string list_keys(const std::vector<std::string>& keys);

/// The text of a TimeoutError: the call, its keys, the time waited, what it means.
std::string timeout_text(std::string_view call, const std::vector<std::string>& missing,
                         double seconds);

}  // namespace weft::inline v0::dist::detail
