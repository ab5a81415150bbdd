// The pages say what the code does.
#include <doctest/doctest.h>

#include <map>
#include <regex>
#include <set>
#include <string>

#include <weft/core/base/env.hpp>
#include <weft/tests/tree/source_tree.hpp>

using namespace weft::test;

TEST_CASE("docs/environment.md lists the variables that are read, and no others") {
  std::map<std::string, std::string> page;
  const std::regex row(R"(^\| `([A-Z_0-9]+)` \| (.*) \|$)");
  for (const std::string& line : read_source("docs/environment.md").lines) {
    std::smatch match;
    if (std::regex_match(line, match, row)) page[match[1]] = match[2];
  }
  for (const weft::env::Variable& variable : weft::env::known_variables()) {
    CHECK_MESSAGE(page.count(variable.name) == 1, variable.name << " is missing");
    CHECK_MESSAGE(page[variable.name] == variable.meaning, variable.name);
    page.erase(variable.name);
  }
  for (const auto& [name, meaning] : page) FAIL_CHECK(name << " is not read by weft: " << meaning);
}

TEST_CASE("environment variables are read in one place, by names that are listed") {
  std::set<std::string> known = {"HOME", "PATH", "TMPDIR"};  // the system's own
  for (const weft::env::Variable& variable : weft::env::known_variables())
    known.insert(variable.name);
  const std::regex direct(R"(\bgetenv\()"), named(R"re(\benv::get(_int|_flag)?\("([A-Z_0-9]+)")re");
  for (const SourceFile& file : cpp_files()) {
    if (file.folder() == "tests") continue;
    for (size_t i = 0; i < file.lines.size(); ++i) {
      std::smatch match;
      const std::string& line = file.lines[i];
      if (file.path != "core/base/env.cpp")
        CHECK_MESSAGE(!std::regex_search(line, direct), file.path << ":" << i + 1 << ": " << line);
      if (std::regex_search(line, match, named))
        CHECK_MESSAGE(known.count(match[2]) == 1, file.path << ":" << i + 1 << ": " << line);
    }
  }
}

TEST_CASE("links between pages lead to files of the tree") {
  const std::regex link(R"(\]\(([^)#]+)(#[^)]*)?\))");
  for (const SourceFile& file : text_files()) {
    if (!file.path.ends_with(".md")) continue;
    const size_t slash = file.path.rfind('/');
    const std::string folder = slash == std::string::npos ? "" : file.path.substr(0, slash + 1);
    for (const std::string& line : file.lines)
      for (std::sregex_iterator it(line.begin(), line.end(), link), end; it != end; ++it) {
        const std::string target = (*it)[1];
        if (target.find("://") != std::string::npos) continue;
        CHECK_NOTHROW_MESSAGE(read_source(folder + target), file.path << ": " << target);
      }
  }
}

TEST_CASE("docs/faults.md names tests that there are, for every fault") {
  const auto exists = [](const std::string& name) {
    for (const SourceFile& file : text_files()) {
      if (!file.path.starts_with("tests/")) continue;
      for (const std::string& line : file.lines)
        if (line.find('"' + name) != std::string::npos) return true;
    }
    return false;
  };
  std::set<std::string> faults;
  const std::regex row(R"(^\| (F[0-9]{2}) \|.*\| ([^|]*) \|$)"), name("`([^`]+)`");
  for (const std::string& line : read_source("docs/faults.md").lines) {
    std::smatch match;
    if (!std::regex_match(line, match, row)) continue;
    faults.insert(match[1]);
    const std::string tests = match[2];
    const std::sregex_iterator first(tests.begin(), tests.end(), name), end;
    CHECK_MESSAGE((first != end || tests == "none yet"), match[1].str());
    for (auto it = first; it != end; ++it)
      CHECK_MESSAGE(exists((*it)[1]), match[1].str() << ": no test '" << (*it)[1].str() << "'");
  }
  CHECK(faults.size() == 22);
}
