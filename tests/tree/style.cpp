// Habits that a reader would otherwise have to watch.
#include <doctest/doctest.h>

#include <regex>
#include <set>
#include <string>
#include <vector>

#include <weft/tests/support/process.hpp>
#include <weft/tests/support/skip.hpp>
#include <weft/tests/tree/source_tree.hpp>

using namespace weft::test;

namespace {

const std::set<std::string> kLibrary = {"core", "autograd", "nn", "dist", "bigmodel"};

// Puts `file:line: text` into a failure for each line that `pattern` finds in `files`.
void check_absent(const std::vector<SourceFile>& files, const std::regex& pattern) {
  for (const SourceFile& file : files)
    for (size_t i = 0; i < file.lines.size(); ++i)
      if (std::regex_search(file.lines[i], pattern))
        FAIL_CHECK(file.path << ":" << i + 1 << ": " << file.lines[i]);
}

}  // namespace

TEST_CASE("all C++ files are formatted") {
  const std::string program = on_path("clang-format-14") ? "clang-format-14" : "clang-format";
  if (!on_path(program)) WEFT_SKIP("clang-format is not installed");
  // Other versions format differently.
  const auto version = run_process({program, "--version"});
  if (version.out.find("version 14.") == std::string::npos)
    WEFT_SKIP("clang-format 14 is needed, this is " + version.out);
  std::vector<std::string> command = {program, "--dry-run", "-Werror", "--style=file"};
  for (const SourceFile& file : cpp_files())
    if (!file.path.ends_with(".def")) command.push_back(file.path);
  const auto result = run_process(command, {.folder = WEFT_SOURCE_ROOT});
  CHECK_MESSAGE(result.ok(), result.err.substr(0, 4000));
}

TEST_CASE("files stay below about 600 lines, tables excepted") {
  constexpr size_t kLimit = 600;
  for (const SourceFile& file : cpp_files())
    if (!file.path.ends_with(".def"))
      CHECK_MESSAGE(file.lines.size() <= kLimit,
                    file.path << " has " << file.lines.size() << " lines");
}

// The patterns are put together here, so that this file does not find itself.
TEST_CASE("nothing is left to do later") {
  check_absent(text_files(), std::regex(std::string("\\b(TO") + "DO|FIX" + "ME|X" + "XX)\\b"));
  check_absent(cpp_files(), std::regex(std::string("#if ") + "0\\b"));
}

TEST_CASE("no build file asks for the machine's own instructions, none for unsafe maths") {
  check_absent(text_files(), std::regex(std::string("-march=nat") + "ive"));
  for (const SourceFile& file : text_files()) {
    if (!file.path.ends_with("meson.build")) continue;
    check_absent({file}, std::regex(std::string("-ffast-") + "math|-fassociative-" + "math"));
  }
}

TEST_CASE("the library lives in weft's inline namespace") {
  const std::regex opens(R"(^namespace weft\b)"), inlined(R"(^namespace weft::inline v0\b)");
  for (const SourceFile& file : cpp_files()) {
    if (kLibrary.count(file.folder()) == 0) continue;
    for (size_t i = 0; i < file.lines.size(); ++i)
      if (std::regex_search(file.lines[i], opens))
        CHECK_MESSAGE(std::regex_search(file.lines[i], inlined),
                      file.path << ":" << i + 1 << ": " << file.lines[i]);
  }
}

TEST_CASE("headers open no namespace for those who include them") {
  for (const SourceFile& file : cpp_files())
    if (file.is_header()) check_absent({file}, std::regex(R"(^\s*using namespace )"));
}

TEST_CASE("no exception is swallowed and no process aborted by the library") {
  for (const SourceFile& file : cpp_files())
    if (kLibrary.count(file.folder()) == 1 || file.folder() == "launcher") {
      check_absent({file}, std::regex(R"(catch \(.*\) \{\s*\})"));
      check_absent({file}, std::regex(R"(\bstd::(abort|terminate)\()"));
    }
}

TEST_CASE("the error texts stand in order, each once, and each is used by a test") {
  std::string tests;
  for (const SourceFile& file : cpp_files())
    if (file.folder() == "tests")
      for (const std::string& line : file.lines) tests += line + "\n";
  std::string last;
  for (const std::string& line : read_source("tests/goldens/errors.txt").lines) {
    if (line.starts_with("#")) continue;
    const std::string name = line.substr(0, line.find(": "));
    CHECK_MESSAGE(name.size() + 2 < line.size(), "not `name: text`: " << line);
    CHECK_MESSAGE(last < name, name << " stands after " << last);
    CHECK_MESSAGE(tests.find("\"" + name + "\"") != std::string::npos, name << " is used nowhere");
    last = name;
  }
}
