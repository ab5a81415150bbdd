#include <weft/tests/tree/source_tree.hpp>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>
#include <stdexcept>

#include "public_headers.hpp"  // generated from weft_headers

namespace weft::test {

namespace {

namespace fs = std::filesystem;

const fs::path kRoot = WEFT_SOURCE_ROOT;

// Build folders, hidden folders and what ./check leaves are no part of the tree.
bool is_foreign(const std::string& name) {
  return name.starts_with("build") || name == "subprojects" ||
         (name.starts_with(".") && name != ".ci");
}

std::vector<std::string> walk() {
  std::vector<std::string> paths;
  for (auto it = fs::recursive_directory_iterator(kRoot); it != fs::recursive_directory_iterator();
       ++it) {
    const bool foreign = it.depth() == 0 && is_foreign(it->path().filename());
    if (foreign && it->is_directory()) it.disable_recursion_pending();
    if (it->is_regular_file()) paths.push_back(fs::relative(it->path(), kRoot));
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

bool has_extension(const std::string& path, const std::vector<std::string>& extensions) {
  const std::string extension = fs::path(path).extension();
  return std::find(extensions.begin(), extensions.end(), extension) != extensions.end();
}

std::vector<SourceFile> read_all(bool (*wanted)(const std::string&)) {
  std::vector<SourceFile> files;
  for (const std::string& path : walk())
    if (wanted(path)) files.push_back(read_source(path));
  return files;
}

bool is_cpp(const std::string& path) { return has_extension(path, {".cpp", ".hpp", ".def"}); }

bool is_text(const std::string& path) {
  const std::string name = fs::path(path).filename();
  return is_cpp(path) || has_extension(path, {".md", ".py", ".sh", ".in", ".cmake"}) ||
         name == "meson.build" || name == "meson_options.txt" || name == "CMakeLists.txt" ||
         path == "quickstart" || path == "check" || path == ".ci/run";
}

}  // namespace

std::string SourceFile::folder() const {
  const size_t slash = path.find('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

const std::vector<SourceFile>& cpp_files() {
  static const std::vector<SourceFile> files = read_all(is_cpp);
  return files;
}

const std::vector<SourceFile>& text_files() {
  static const std::vector<SourceFile> files = read_all(is_text);
  return files;
}

std::vector<Include> includes(const SourceFile& file) {
  static const std::regex kInclude(R"re(^\s*#\s*include\s*([<"])([^>"]+)[>"].*)re");
  std::vector<Include> found;
  for (size_t i = 0; i < file.lines.size(); ++i) {
    std::smatch match;
    if (file.lines[i].find("include") != std::string::npos &&
        std::regex_match(file.lines[i], match, kInclude))
      found.push_back({match[2], match[1] == "<", i + 1});
  }
  return found;
}

const std::vector<std::string>& public_headers() {
  static const std::vector<std::string> headers(std::begin(kPublicHeaders),
                                                std::end(kPublicHeaders));
  return headers;
}

SourceFile read_source(const std::string& path) {
  std::ifstream stream(kRoot / path);
  if (!stream) throw std::runtime_error("cannot read " + path);
  SourceFile file;
  file.path = path;
  for (std::string line; std::getline(stream, line);) file.lines.push_back(line);
  return file;
}

}  // namespace weft::test
