// Environment variables for the time of a test.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace weft::test {

/// Sets variables for the time of a test, or removes them (nullopt).
class Environment {
 public:
  explicit Environment(std::vector<std::pair<std::string, std::optional<std::string>>> changes);
  ~Environment();
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

 private:
  std::vector<std::pair<std::string, std::optional<std::string>>> before_;
};

}  // namespace weft::test
