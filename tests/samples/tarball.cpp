// The tarball: what is unpacked and moved works where it lies, with nothing of the build in its
// way.
#include <doctest/doctest.h>

#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

#include <weft/tests/support/process.hpp>
#include <weft/tests/support/skip.hpp>
#include <weft/tests/support/temp_dir.hpp>

using namespace weft::test;

namespace {

namespace fs = std::filesystem;

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// Meson points the loader of programs under test to the build's libraries.
const ProcessOptions kNoBuild = {.env = {"LD_LIBRARY_PATH"}};

ProcessResult tarball(const std::string& build, const std::string& output) {
  return run_process({WEFT_SOURCE_ROOT "/packaging/tarball.sh", build, output},
                     {.limit = std::chrono::seconds(300)});
}

// The tarball, unpacked, and its folder moved elsewhere: once for all tests.
class Moved {
 public:
  Moved() {
    const ProcessResult made = tarball(WEFT_BUILD_ROOT, folder_.path());
    if (!made.ok()) throw std::runtime_error("tarball.sh: " + made.out + made.err);
    archive_ = made.out.substr(0, made.out.find('\n'));
    const ProcessResult unpacked =
        run_process({"tar", "-xzf", archive_, "-C", folder_.path().string()});
    if (!unpacked.ok()) throw std::runtime_error("tar: " + unpacked.err);
    const std::string name = fs::path(archive_).filename();
    fs::create_directories(folder_ / "moved/further");
    root_ = folder_ / "moved/further/weft";
    fs::rename(folder_ / name.substr(0, name.size() - 7), root_);
  }

  const std::string& archive() const { return archive_; }
  const fs::path& root() const { return root_; }
  std::string launcher() const { return root_ / "bin/launcher"; }

  /// The folder below lib that has weft.pc.
  fs::path libdir() const {
    for (const auto& entry : fs::recursive_directory_iterator(root_ / "lib"))
      if (entry.path().filename() == "weft.pc") return entry.path().parent_path().parent_path();
    throw std::runtime_error("no weft.pc in the tarball");
  }

 private:
  TempDir folder_;
  std::string archive_;
  fs::path root_;
};

const Moved& moved() {
  static const Moved instance;
  return instance;
}

}  // namespace

#ifdef WEFT_SANITIZED
#define WEFT_SKIP_SANITIZED() WEFT_SKIP("a sanitizer build is not packed")
#else
#define WEFT_SKIP_SANITIZED() static_cast<void>(0)
#endif

TEST_CASE("tarball: launcher, commands and completions work from a moved folder") {
  WEFT_SKIP_SANITIZED();
  const std::string name = fs::path(moved().archive()).filename();
  CHECK(name.starts_with("weft-0.1.0-"));
  const ProcessResult version = run_process({moved().launcher(), "--version"});
  CHECK(version.out == "weft launcher 0.1.0\n");
  const ProcessResult report = run_process({moved().launcher(), "env"}, kNoBuild);
  CHECK_MESSAGE(report.ok(), report.err);
  CHECK_MESSAGE(contains(report.out, "libweft"), report.out);
  CHECK_MESSAGE(contains(report.out, (moved().libdir() / "libweft.so.0.1.0").string()), report.out);
  CHECK_FALSE(contains(report.out, WEFT_BUILD_ROOT));
  const ProcessResult help = run_process({moved().launcher(), "help"});
  for (const char* command : {"launch", "config", "test", "env", "completion"})
    CHECK_MESSAGE(contains(help.out, std::string("\n  ") + command + " "), command);
  for (const char* file :
       {"share/bash-completion/completions/launcher", "share/zsh/site-functions/_launcher",
        "share/fish/vendor_completions.d/launcher.fish", "share/doc/weft/LICENSE"})
    CHECK_MESSAGE(fs::file_size(moved().root() / file) > 100, file);
}

TEST_CASE("tarball: launcher test passes, through a link on PATH too") {
  WEFT_SKIP_SANITIZED();
  const TempDir bin;
  fs::create_symlink(moved().launcher(), bin / "launcher");
  for (const std::string& launcher : {moved().launcher(), (bin / "launcher").string()}) {
    const ProcessResult result = run_process({launcher, "test", "--quick", "--check_limit", "60",
                                              "--check", "state,training,all_reduce,kill_drill"},
                                             kNoBuild);
    CHECK_MESSAGE(result.ok(), result.out << result.err);
    CHECK(contains(result.out, "5 passed, 0 failed, 0 skipped"));
  }
}

TEST_CASE("tarball: a program builds against it with pkg-config") {
  WEFT_SKIP_SANITIZED();
  const TempDir folder;
  fs::copy(WEFT_SOURCE_ROOT "/tests/outside/xor.cpp", folder.path());
  const std::string libdir = moved().libdir();
  const ProcessResult result =
      run_process({"sh", "-ec",
                   "pkg-config --cflags weft; g++ -std=c++20 xor.cpp $(pkg-config --cflags --libs "
                   "weft) -o xor; ./xor"},
                  {.folder = folder.path(),
                   .env = {"PKG_CONFIG_PATH=" + libdir + "/pkgconfig", "LD_LIBRARY_PATH=" + libdir},
                   .limit = std::chrono::seconds(300)});
  CHECK_MESSAGE(result.ok(), result.out << result.err);
  CHECK_MESSAGE(contains(result.out, "-I" + moved().root().string()), result.out);
  CHECK(contains(result.out, "final loss: 0.00"));
}

TEST_CASE("tarball: nothing in it names the build's folder as a place to load from") {
  WEFT_SKIP_SANITIZED();
  if (!on_path("readelf")) WEFT_SKIP("readelf is not installed");
  size_t seen = 0;
  for (const auto& entry : fs::recursive_directory_iterator(moved().root())) {
    if (!entry.is_regular_file() || entry.is_symlink()) continue;
    const ProcessResult result = run_process({"readelf", "-d", entry.path().string()});
    if (!contains(result.out, "NEEDED")) continue;
    ++seen;
    CHECK_MESSAGE(!contains(result.out, WEFT_BUILD_ROOT), entry.path());
  }
  CHECK(seen >= 6);
}

TEST_CASE("tarball: a folder that is no build, and none to write to, are refused") {
  const TempDir folder;
  const ProcessResult no_build = tarball(folder.path(), folder.path());
  CHECK(no_build.exit_code == 2);
  CHECK(contains(no_build.err, "is no build folder; run ./quickstart first"));
  const ProcessResult no_output = tarball(WEFT_BUILD_ROOT, folder / "none");
  CHECK(no_output.exit_code == 2);
  CHECK(contains(no_output.err, "is no folder"));
}
