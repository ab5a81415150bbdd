#include <weft/tests/support/temp_dir.hpp>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <system_error>

namespace weft::test {

TempDir::TempDir() {
  std::string pattern = std::filesystem::temp_directory_path() / "weft-test-XXXXXX";
  if (mkdtemp(pattern.data()) == nullptr)
    throw std::system_error(errno, std::generic_category(), "mkdtemp " + pattern);
  path_ = pattern;
}

TempDir::~TempDir() {
  std::error_code error;
  std::filesystem::remove_all(path_, error);
  if (error) std::fprintf(stderr, "%s stays: %s\n", path_.c_str(), error.message().c_str());
}

}  // namespace weft::test
