// An installed weft serves programs outside the tree, in each way that docs/using-weft.md shows.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <weft/tests/support/process.hpp>
#include <weft/tests/support/skip.hpp>
#include <weft/tests/support/temp_dir.hpp>

using namespace weft::test;

namespace {

namespace fs = std::filesystem;

const std::string kOutside = WEFT_SOURCE_ROOT "/tests/outside";

// weft, installed into a folder of its own, once for all tests.
class Installed {
 public:
  Installed() {
    const auto result = run_process({"meson", "install", "-C", WEFT_BUILD_ROOT, "--no-rebuild",
                                     "--quiet", "--destdir", folder_.path()});
    if (!result.ok()) throw std::runtime_error("meson install: " + result.out + result.err);
    for (const auto& entry : fs::recursive_directory_iterator(folder_.path()))
      if (entry.path().filename() == "weft.pc") pkgconfig_ = entry.path().parent_path();
    libdir_ = pkgconfig_.parent_path();
  }

  const fs::path& root() const { return folder_.path(); }
  const fs::path& libdir() const { return libdir_; }
  fs::path prefix() const { return root() / fs::path(WEFT_PREFIX).relative_path(); }
  fs::path include() const { return prefix() / "include/weft"; }

  /// The variables that stand for "installed where the system looks".
  std::vector<std::string> env() const {
    return {"PKG_CONFIG_PATH=" + pkgconfig_.string(), "LD_LIBRARY_PATH=" + libdir_.string()};
  }

 private:
  TempDir folder_;
  fs::path pkgconfig_;
  fs::path libdir_;
};

const Installed& installed() {
  static const Installed instance;
  return instance;
}

ProcessResult shell(const std::string& command, const fs::path& folder) {
  return run_process({"sh", "-ec", command}, {.folder = folder,
                                              .env = installed().env(),
                                              .input = {},
                                              .limit = std::chrono::seconds(300)});
}

/// The numbers behind " loss " in each line of a run that ended well.
std::vector<double> losses_of(const ProcessResult& run) {
  CHECK_MESSAGE(run.ok(), run.out << run.err);
  CHECK_MESSAGE(run.err.empty(), run.err);
  std::vector<double> losses;
  const std::string word = " loss ";
  for (size_t at = run.out.find(word); at != std::string::npos; at = run.out.find(word, at + 1))
    losses.push_back(std::strtod(run.out.c_str() + at + word.size(), nullptr));
  return losses;
}

// Builds and runs a program by `command`, in a folder that holds a copy of tests/outside.
void check_outside(const std::string& command, const std::string& expected) {
  const TempDir folder;
  fs::copy(kOutside, folder.path(), fs::copy_options::recursive);
  const auto result = shell(command, folder.path());
  CHECK_MESSAGE(result.ok(), result.out << result.err);
  CHECK_MESSAGE(result.out.find(expected) != std::string::npos, result.out);
}

}  // namespace

#ifdef WEFT_SANITIZED
#define WEFT_SKIP_SANITIZED() WEFT_SKIP("a sanitizer build is not installed")
#else
#define WEFT_SKIP_SANITIZED() static_cast<void>(0)
#endif

TEST_CASE("install: a program outside the tree builds with pkg-config") {
  WEFT_SKIP_SANITIZED();
  check_outside("g++ -std=c++20 xor.cpp $(pkg-config --cflags --libs weft) -o xor && ./xor",
                "final loss: 0.00");
}

TEST_CASE("install: a program outside the tree builds with Meson") {
  WEFT_SKIP_SANITIZED();
  check_outside("meson setup build >&2 && ninja -C build >&2 && build/xor", "final loss: 0.00");
}

TEST_CASE("install: a program outside the tree builds with CMake") {
  WEFT_SKIP_SANITIZED();
  check_outside("cmake -S . -B build -G Ninja -DCMAKE_PREFIX_PATH=" +
                    installed().prefix().string() + " >&2 && cmake --build build >&2 && build/xor",
                "final loss: 0.00");
}

TEST_CASE("install: a program outside the tree adds an operator and checks its gradient") {
  WEFT_SKIP_SANITIZED();
  check_outside(
      "g++ -std=c++20 own_op.cpp $(pkg-config --cflags --libs weft) -o own_op && ./own_op",
      "gradcheck: ok\non meta: 20 elements");
}

TEST_CASE("install: every header that an installed header includes is installed") {
  WEFT_SKIP_SANITIZED();
  size_t seen = 0;
  for (const auto& entry : fs::recursive_directory_iterator(installed().include())) {
    if (!entry.is_regular_file()) continue;
    std::ifstream stream(entry.path());
    for (std::string line; std::getline(stream, line);) {
      const std::string start = "#include <weft/";
      if (!line.starts_with(start)) continue;
      ++seen;
      const std::string target = line.substr(start.size(), line.find('>') - start.size());
      CHECK_MESSAGE(fs::exists(installed().include() / target), entry.path()
                                                                    << " needs " << target);
    }
  }
  CHECK(seen > 0);
}

TEST_CASE("install: the library has its soname and links, and is at most 25 MB stripped") {
  WEFT_SKIP_SANITIZED();
  const fs::path library = installed().libdir() / "libweft.so";
  CHECK(fs::is_symlink(library));
  CHECK(fs::is_symlink(installed().libdir() / "libweft.so.0"));
  const TempDir folder;
  const auto result = shell("strip -o stripped " + library.string() + " && objdump -p " +
                                library.string() + " | grep SONAME",
                            folder.path());
  REQUIRE_MESSAGE(result.ok(), result.err);
  CHECK(result.out.find("libweft.so.0") != std::string::npos);
  const auto bytes = fs::file_size(folder / "stripped");
  MESSAGE("libweft.so stripped: " << static_cast<double>(bytes) / 1e6 << " MB");
  CHECK(bytes <= 25'000'000);
}

TEST_CASE("install: the CMake package fits its own minor version only") {
  WEFT_SKIP_SANITIZED();
  const TempDir folder;
  const auto found = [&](const std::string& version) {
    std::ofstream(folder / "CMakeLists.txt")
        << "cmake_minimum_required(VERSION 3.20)\nproject(v CXX)\nfind_package(weft " << version
        << " REQUIRED)\n";
    fs::remove_all(folder / "build");
    return shell("cmake -S . -B build -DCMAKE_PREFIX_PATH=" + installed().prefix().string(),
                 folder.path())
        .ok();
  };
  CHECK(found("0.1"));
  CHECK(found("0.1.0"));
  CHECK_FALSE(found("0.2"));
  CHECK_FALSE(found("1"));
  CHECK_FALSE(found("0.0"));
}

TEST_CASE("install: model_train, built outside the tree, loses the same on 1, 2 and 8 ranks") {
  WEFT_SKIP_SANITIZED();
  const TempDir folder;
  fs::copy(WEFT_SOURCE_ROOT "/samples/model_train.cpp", folder.path());
  const ProcessResult build =
      shell("g++ -std=c++20 -O2 model_train.cpp $(pkg-config --cflags --libs weft) -o model_train",
            folder.path());
  REQUIRE_MESSAGE(build.ok(), build.err);
  const std::string launcher = (installed().prefix() / "bin/launcher").string();
  const std::vector<double> alone = losses_of(shell("./model_train", folder.path()));
  REQUIRE(alone.size() == 128);
  CHECK(alone.back() < 0.2 * alone.front());
  for (const char* ranks : {"1", "2", "8"}) {
    CAPTURE(ranks);
    const std::vector<double> launched =
        losses_of(shell(launcher + " -n " + ranks + " ./model_train", folder.path()));
    REQUIRE(launched.size() == alone.size());
    for (size_t i = 0; i < 100; ++i) {
      CAPTURE(i);
      CHECK(std::abs(launched[i] - alone[i]) <= 2e-4 * alone[i]);
    }
  }
}
