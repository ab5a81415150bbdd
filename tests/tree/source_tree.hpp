// The files of the source tree, for the tests that read them.
#pragma once

#include <string>
#include <vector>

namespace weft::test {

struct SourceFile {
  std::string path;  ///< relative to the root: "core/base/env.hpp"
  std::vector<std::string> lines;

  /// The first folder of the path; empty for a file at the root.
  std::string folder() const;
  bool is_header() const { return path.ends_with(".hpp"); }
};

struct Include {
  std::string target;  ///< "weft/core/tensor.hpp", "vector"
  bool angled = true;
  size_t line = 0;  ///< counted from 1
};

/// The C++ files (.cpp, .hpp, .def) of every folder of the tree, and of its root.
const std::vector<SourceFile>& cpp_files();

/// Every text file that is written by hand: the C++ files, build files, scripts, pages.
const std::vector<SourceFile>& text_files();

/// The include lines of a file.
std::vector<Include> includes(const SourceFile& file);

/// The headers that are installed, as their folders list them in `weft_headers`.
const std::vector<std::string>& public_headers();

/// The file at `path` (relative to the root). Throws std::runtime_error where there is none.
SourceFile read_source(const std::string& path);

}  // namespace weft::test
