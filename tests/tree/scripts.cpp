// ./quickstart and ./check, run in a copy of their files with stand-ins for the programs they call.
#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include <weft/tests/support/process.hpp>
#include <weft/tests/support/temp_dir.hpp>

using namespace weft::test;

namespace {

namespace fs = std::filesystem;

// A copy of the scripts, and a folder of stand-ins that comes first in PATH.
class Scripts {
 public:
  Scripts() {
    const fs::path root = WEFT_SOURCE_ROOT;
    for (const char* path : {"packaging", "tests/support"})
      fs::create_directories((folder_ / path).parent_path());
    for (const char* path : {"quickstart", "check", "packaging", "tests/support"})
      fs::copy(root / path, folder_ / path, fs::copy_options::recursive);
    put("stubs/dpkg-query", "echo installed");
    put("stubs/id", "echo 1000");
    put("stubs/meson", "exit 0");
    put("stubs/ninja", "exit 0");
  }

  // A shell script at `path`.
  void put(const std::string& path, const std::string& text) {
    fs::create_directories((folder_ / path).parent_path());
    std::ofstream(folder_ / path) << "#!/bin/sh\n" << text << "\n";
    fs::permissions(folder_ / path, fs::perms::owner_all);
  }

  ProcessResult run(const std::string& command) {
    const char* path = std::getenv("PATH");
    return run_process({"bash", "-c", command}, {.folder = folder_.path(),
                                                 .env = {"PATH=" + (folder_ / "stubs").string() +
                                                         ":" + (path == nullptr ? "" : path)}});
  }

 private:
  TempDir folder_;
};

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

std::string last_line(const std::string& text) {
  const size_t end = text.find_last_not_of('\n');
  if (end == std::string::npos) return "";
  const size_t start = text.rfind('\n', end);
  return text.substr(start == std::string::npos ? 0 : start + 1, end - start);
}

constexpr const char* kOneMissing = "case \"$*\" in *libdnnl-dev*) exit 1 ;; esac; echo installed";

}  // namespace

TEST_CASE("scripts: without root, missing packages are named in a line to run") {
  Scripts scripts;
  scripts.put("stubs/dpkg-query", kOneMissing);
  scripts.put("stubs/apt-get", "echo called >apt-get-was-called");
  for (const char* script : {"./quickstart", "./check"}) {
    const auto result = scripts.run(script);
    CHECK(result.exit_code == 1);
    CHECK(contains(result.err,
                   "\napt-get update && apt-get install -y --no-install-recommends libdnnl-dev\n"));
  }
  CHECK_FALSE(scripts.run("test -e apt-get-was-called").ok());
}

TEST_CASE("scripts: as root, only the missing packages are installed, and a failure is told") {
  Scripts scripts;
  scripts.put("stubs/dpkg-query", kOneMissing);
  scripts.put("stubs/id", "echo 0");
  scripts.put("stubs/apt-get", "echo \"$*\" >>calls; [ \"$1\" = update ]");
  const auto result = scripts.run("./quickstart");
  CHECK(result.exit_code == 1);
  CHECK(contains(result.err, "could not install libdnnl-dev"));
  CHECK(scripts.run("cat calls").out ==
        "update -qq\ninstall -y -qq --no-install-recommends libdnnl-dev\n");
}

TEST_CASE("scripts: quickstart ends with the accuracy, and fails below 0.98") {
  Scripts scripts;
  const auto run = [&](const std::string& output) {
    scripts.put("build/launcher/launcher", output);
    return scripts.run("./quickstart");
  };
  const auto good = run("echo \"$*\" >arguments; echo 'held-out accuracy: 0.9889'");
  CHECK_MESSAGE(good.ok(), good.err);
  CHECK(last_line(good.out) == "held-out accuracy: 0.9889");
  CHECK(scripts.run("cat arguments").out == "-n 2 build/samples/train_digits\n");
  CHECK(run("echo 'held-out accuracy: 0.9799'").exit_code == 1);
  CHECK(run("echo 'no figure'").exit_code == 1);
  CHECK(run("echo 'held-out accuracy: 0.9889'; exit 9").exit_code != 0);
}

TEST_CASE("scripts: what is wrong with a build or an argument shows in the exit code") {
  Scripts scripts;
  CHECK(scripts.run("./check --sloww").exit_code == 2);
  CHECK(scripts.run("./quickstart now").exit_code == 2);
  scripts.put("stubs/ninja", "exit 1");
  const auto broken = scripts.run("./check");
  CHECK(broken.exit_code == 1);
  CHECK(last_line(broken.out) == "0 passed, 1 failed, 0 skipped");
  CHECK_FALSE(scripts.run("./quickstart").ok());
}

TEST_CASE("scripts: check counts what the tests print, and fails with them") {
  Scripts scripts;
  const std::string list = "case \"$*\" in *--list*) echo 'weft:fast / core'; exit 0 ;; esac\n";
  const auto run = [&](const std::string& count) {
    scripts.put("stubs/meson",
                list + "mkdir -p build/meson-logs\n" +
                    R"(printf '%s\n' '{"name": "weft:fast / core", "result": "OK", )" +
                    R"("returncode": 0, "stdout": ")" + count +
                    R"(\n"}' >build/meson-logs/check.json)");
    return scripts.run("./check");
  };
  const auto good = run("[weft] 7 passed, 0 failed, 2 skipped");
  CHECK_MESSAGE(good.ok(), good.err);
  CHECK(last_line(good.out) == "7 passed, 0 failed, 2 skipped");
  const auto bad = run("[weft] 7 passed, 1 failed, 0 skipped");
  CHECK(bad.exit_code == 1);
  CHECK(last_line(bad.out) == "7 passed, 1 failed, 0 skipped");
  CHECK(last_line(run("Segmentation fault").out) == "0 passed, 1 failed, 0 skipped");
}
