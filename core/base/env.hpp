// Environment variables, read in one place so that each has one parser and one error text.
// docs/environment.md lists them all; a test holds the list against `known_variables()`.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include <weft/core/base/api.hpp>

namespace weft::inline v0::env {

struct Variable {
  const char* name;
  const char* meaning;
};

/// Every variable that weft reads, with one line of explanation.
WEFT_API std::span<const Variable> known_variables();

/// The value of `name`, or nothing where it is unset or empty.
WEFT_API std::optional<std::string> get(const char* name);

/// The value of `name` as a whole number in [low, high]; nothing where it is unset.
/// Throws ArgumentError, naming the variable, its value and the range, where it is no such number.
WEFT_API std::optional<int64_t> get_int(const char* name, int64_t low, int64_t high);

/// The value of `name` as a flag (1/0, true/false, yes/no, on/off); nothing where it is unset.
/// Throws ArgumentError where it is none of these.
WEFT_API std::optional<bool> get_flag(const char* name);

}  // namespace weft::inline v0::env
