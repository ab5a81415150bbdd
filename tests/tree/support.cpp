// The helpers of the tests, tested: what they report is what every other test rests on.
#include <doctest/doctest.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <stdexcept>

#include <weft/tests/support/errors.hpp>
#include <weft/tests/support/process.hpp>
#include <weft/tests/support/temp_dir.hpp>

using namespace weft::test;

TEST_CASE("run_process returns the output, the exit code and the signal") {
  const auto result = run_process({"sh", "-c", "cat; echo $WORD >&2; pwd; exit 7"},
                                  {.folder = "/", .env = {"WORD=word"}, .input = "input "});
  CHECK(result.out == "input /\n");
  CHECK(result.err == "word\n");
  CHECK(result.exit_code == 7);
  CHECK(result.signal == 0);
  CHECK(run_process({"sh", "-c", "kill -9 $$"}).signal == SIGKILL);
  CHECK(run_process({"/nowhere/program"}).exit_code == 127);
}

TEST_CASE("run_process kills a program that runs past its limit, with its children") {
  const auto result =
      run_process({"sh", "-c", "sleep 100 & sleep 100"}, {.limit = std::chrono::seconds(1)});
  CHECK(result.timed_out);
  CHECK(result.signal == SIGKILL);
}

TEST_CASE("TempDir makes a folder and removes it with its content") {
  std::filesystem::path path;
  {
    const TempDir folder;
    path = folder.path();
    std::filesystem::create_directories(folder / "a/b");
    CHECK(std::filesystem::is_directory(path));
  }
  CHECK_FALSE(std::filesystem::exists(path));
}

TEST_CASE("error texts are compared with their golden line") {
  check_error<std::runtime_error>(
      "support_example", [] { throw std::runtime_error("support: process 4711 failed"); },
      without_digits);
  CHECK(compare_error_text("support_example", "support: other").find("reads: support: other") !=
        std::string::npos);
  CHECK(compare_error_text("support_missing", "text").find("has no line") != std::string::npos);
  CHECK(replaced("/tmp/x/a /tmp/x/b", "/tmp/x", "DIR") == "DIR/a DIR/b");
}

TEST_CASE("counts.py counts cases, and crashed, silent and missing binaries as failures") {
  const TempDir folder;
  const auto write = [&](const char* name, const std::string& text) {
    std::ofstream(folder / name) << text;
  };
  write("list", "weft:fast / core\nweft:fast / nn\nweft:fast / tree\nweft:dist / dist\n");
  write("log.json",
        R"({"name": "weft:fast / core", "stdout": "[weft] 5 passed, 0 failed, 2 skipped\n",)"
        R"( "result": "OK", "returncode": 0})"
        "\n"
        R"({"name": "weft:fast / nn", "stdout": "[weft] 3 passed, 1 failed, 0 skipped\n",)"
        R"( "result": "FAIL", "returncode": 1})"
        "\n"
        R"({"name": "weft:fast / tree", "stdout": "", "result": "FAIL", "returncode": -11})"
        "\n");
  const auto counts = [&](const char* log) {
    return run_process(
        {"python3", WEFT_SOURCE_ROOT "/tests/support/counts.py", folder / log, folder / "list"});
  };
  const auto result = counts("log.json");
  CHECK(result.out == "8 3 2\n");
  CHECK(result.err == "tree: FAIL, exit -11\ndist: did not run\n");
  CHECK(counts("missing.json").out == "0 4 0\n");
}
