#include <weft/tests/support/environment.hpp>

#include <cstdlib>

namespace weft::test {

Environment::Environment(std::vector<std::pair<std::string, std::optional<std::string>>> changes) {
  for (const auto& [name, value] : changes) {
    const char* old = std::getenv(name.c_str());
    before_.emplace_back(name, old ? std::optional<std::string>(old) : std::nullopt);
    if (value)
      setenv(name.c_str(), value->c_str(), 1);
    else
      unsetenv(name.c_str());
  }
}

Environment::~Environment() {
  for (const auto& [name, value] : before_) {
    if (value)
      setenv(name.c_str(), value->c_str(), 1);
    else
      unsetenv(name.c_str());
  }
}

}  // namespace weft::test
