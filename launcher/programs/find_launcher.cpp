#include <weft/launcher/programs/find_launcher.hpp>

#include <unistd.h>

#include <filesystem>

#include <weft/core/base/check.hpp>

namespace weft::inline v0::launcher {

std::string find_launcher() {
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe");
  const auto folder = self.parent_path();
  for (const auto& path : {folder / "../../bin/launcher", folder / "../launcher"})
    if (::access(path.c_str(), X_OK) == 0 && std::filesystem::is_regular_file(path))
      return path.lexically_normal();
  weft::detail::fail<Error>(
      "launcher test: no launcher beside {}; a prefix has bin/launcher and libexec/weft/",
      self.string());
}

}  // namespace weft::inline v0::launcher
