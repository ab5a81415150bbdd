// A folder for one test, gone with it.
#pragma once

#include <filesystem>

namespace weft::test {

/// Makes an empty folder of mode 0700 under the system's temporary folder and removes it with all
/// that is in it.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::filesystem::path& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

}  // namespace weft::test
