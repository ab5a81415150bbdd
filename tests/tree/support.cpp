// The helpers of the tests, tested: what they report is what every other test rests on.
#include <doctest/doctest.h>

#include <csignal>
#include <filesystem>
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
