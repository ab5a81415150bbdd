// What the built library shows to others, and what its CPU levels could mix up.
#include <doctest/doctest.h>

#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include <weft/tests/support/process.hpp>
#include <weft/tests/support/skip.hpp>

using namespace weft::test;

namespace {

namespace fs = std::filesystem;

struct Symbol {
  char type = ' ';
  std::string name;
};

std::vector<Symbol> symbols(const std::vector<std::string>& options, const fs::path& file) {
  std::vector<std::string> command = {"nm", "-C", "-P", "--defined-only"};
  command.insert(command.end(), options.begin(), options.end());
  command.push_back(file);
  const auto result = run_process(command);
  REQUIRE_MESSAGE(result.ok(), result.err);
  // With -P a line reads `name type [value size]`; the name may hold spaces.
  std::vector<Symbol> found;
  std::istringstream lines(result.out);
  for (std::string line; std::getline(lines, line);)
    for (size_t at = line.size(); at >= 3; --at)
      if (line[at - 1] == ' ' && line[at - 3] == ' ') {
        found.push_back({line[at - 2], line.substr(0, at - 3)});
        break;
      }
  return found;
}

// Libraries of one CPU level: lib<something>_<level>.a below core/.
std::vector<fs::path> level_libraries(const std::string& level) {
  std::vector<fs::path> found;
  for (const auto& entry : fs::recursive_directory_iterator(WEFT_BUILD_ROOT "/core")) {
    const std::string name = entry.path().filename();
    if (name.starts_with("lib") && name.ends_with("_" + level + ".a"))
      found.push_back(entry.path());
  }
  return found;
}

fs::path library() {
  for (const auto& entry : fs::directory_iterator(WEFT_BUILD_ROOT)) {
    const std::string name = entry.path().filename();
    if (name.starts_with("libweft.so") && entry.is_regular_file() && !entry.is_symlink())
      return entry.path();
  }
  return {};
}

}  // namespace

// Note [CPU levels and weak symbols]
// A weak symbol of a file that was compiled for AVX-512 may be the one that the linker keeps for
// the whole library; an older CPU then runs it and dies. So the files of a level define nothing
// that is visible to the linker outside the level's own namespace.
TEST_CASE("the kernels of a CPU level define nothing outside their namespace") {
  if (!on_path("nm")) WEFT_SKIP("nm is not installed");
  // Without optimisation even the smallest inline function comes out as a weak symbol.
  const std::string optimization = WEFT_OPTIMIZATION;
  if (optimization != "2" && optimization != "3") WEFT_SKIP("built with -O" + optimization);
  size_t checked = 0;
  for (const std::string level : {"baseline", "avx2", "avx512", "amx"})
    for (const fs::path& path : level_libraries(level)) {
      const std::string own = "cpu_" + level + "::";
      for (const Symbol& symbol : symbols({"-g"}, path)) {
        ++checked;
        CHECK_MESSAGE(symbol.name.find(own) != std::string::npos,
                      path.filename().string() << ": " << symbol.type << " " << symbol.name);
      }
    }
  CHECK(checked > 0);
}

TEST_CASE("libweft exports weft's names only") {
  if (!on_path("nm")) WEFT_SKIP("nm is not installed");
  const fs::path path = library();
  REQUIRE_FALSE(path.empty());
  size_t own = 0;
  for (const Symbol& symbol : symbols({"-D"}, path)) {
    const bool is_own = symbol.name.find("weft::v0::") != std::string::npos;
    own += is_own;
    // Templates of the standard library come out weak; a strong foreign symbol is one that leaked.
    const bool weak = symbol.type == 'W' || symbol.type == 'V' || symbol.type == 'u';
    CHECK_MESSAGE((is_own || weak), symbol.type << " " << symbol.name);
  }
  CHECK(own > 10);
}
