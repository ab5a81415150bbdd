// Public headers: light, complete, and all behind the umbrella. (That each compiles alone is
// checked by the build: see headers_alone in meson.build.)
#include <doctest/doctest.h>

#include <algorithm>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <weft/tests/support/process.hpp>
#include <weft/tests/support/temp_dir.hpp>
#include <weft/tests/tree/source_tree.hpp>

using namespace weft::test;

namespace {

// Standard headers that programs may pay for with one include of the umbrella.
const std::set<std::string> kLight = {"algorithm",
                                      "array",
                                      "atomic",
                                      "bit",
                                      "chrono",
                                      "climits",
                                      "cmath",
                                      "compare",
                                      "complex",
                                      "concepts",
                                      "cstddef",
                                      "cstdint",
                                      "cstring",
                                      "exception",
                                      "filesystem",
                                      "functional",
                                      "initializer_list",
                                      "iosfwd",
                                      "iterator",
                                      "limits",
                                      "map",
                                      "memory",
                                      "mutex",
                                      "new",
                                      "numeric",
                                      "optional",
                                      "span",
                                      "stdexcept",
                                      "string",
                                      "string_view",
                                      "thread",
                                      "tuple",
                                      "type_traits",
                                      "unordered_map",
                                      "utility",
                                      "variant",
                                      "vector"};

// The lines that the compiler gets to see for one include of `header`.
size_t preprocessed_lines(const std::string& header) {
  std::istringstream words(WEFT_COMPILER);
  std::vector<std::string> command;
  for (std::string word; words >> word;) command.push_back(word);
  for (const char* word :
       {"-std=c++20", "-E", "-P", "-I" WEFT_BUILD_ROOT "/include", "-x", "c++", "-"})
    command.emplace_back(word);
  const auto result = run_process(command, {.input = "#include <weft/" + header + ">\n"});
  REQUIRE_MESSAGE(result.ok(), result.err);
  return static_cast<size_t>(std::count(result.out.begin(), result.out.end(), '\n'));
}

}  // namespace

TEST_CASE("public headers include light standard headers and public headers only") {
  const std::set<std::string> all(public_headers().begin(), public_headers().end());
  for (const std::string& header : public_headers())
    for (const Include& include : includes(read_source(header))) {
      const bool own = include.target.starts_with("weft/");
      const bool fine =
          own ? all.count(include.target.substr(5)) == 1 || include.target.ends_with(".def")
              : kLight.count(include.target) == 1;
      CHECK_MESSAGE(fine,
                    header << ":" << include.line << ": " << include.target
                           << (own ? " is not installed" : " is not a light standard header"));
    }
}

TEST_CASE("weft.hpp includes every public header") {
  std::set<std::string> included;
  for (const Include& include : includes(read_source("weft.hpp"))) included.insert(include.target);
  for (const std::string& header : public_headers())
    if (header != "weft.hpp")
      CHECK_MESSAGE(included.count("weft/" + header) == 1, "weft.hpp lacks " << header);
}

// Time differs from machine to machine; lines do not. 120,000 take about a second to parse.
TEST_CASE("weft.hpp stays small enough to parse in about a second") {
  const size_t lines = preprocessed_lines("weft.hpp");
  MESSAGE("weft.hpp: " << lines << " lines after preprocessing");
  CHECK(lines > 1000);
  CHECK(lines < 120000);
}

TEST_CASE("every header is guarded, and public ones use the inline namespace") {
  for (const SourceFile& file : cpp_files()) {
    if (!file.is_header()) continue;
    CHECK_MESSAGE(std::count(file.lines.begin(), file.lines.end(), "#pragma once") == 1, file.path);
  }
}
