// Who may include whom: the direction of the layers, and third-party headers behind their file.
#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include <weft/tests/tree/source_tree.hpp>

using namespace weft::test;

namespace {

bool within(const std::string& path, const std::string& folder) {
  return path.starts_with(folder + "/");
}

// The folders that files of a folder may include from; the longest key that fits a path counts.
const std::map<std::string, std::vector<std::string>> kMayInclude = {
    {"core/base", {"core/base"}},
    {"core", {"core"}},
    {"autograd", {"core", "autograd"}},
    {"nn", {"core", "autograd", "nn"}},
    {"dist/store", {"core/base", "dist/store"}},
    {"dist", {"core", "autograd", "nn", "dist"}},
    {"bigmodel", {"core", "autograd", "nn", "bigmodel"}},
    {"launcher", {"core/base", "dist/store", "launcher"}},
    // The launcher itself links no tensor; of its commands, those that run in ranks do.
    {"launcher/programs", {"core", "autograd", "nn", "dist", "launcher"}},
};

const std::vector<std::string>* layer_of(const std::string& path) {
  const std::vector<std::string>* layer = nullptr;
  size_t longest = 0;
  for (const auto& [folder, allowed] : kMayInclude)
    if (within(path, folder) && folder.size() > longest) {
      layer = &allowed;
      longest = folder.size();
    }
  return layer;
}

bool any_within(const std::string& path, const std::vector<std::string>& folders) {
  return std::any_of(folders.begin(), folders.end(),
                     [&](const std::string& folder) { return within(path, folder); });
}

bool is_public(const std::string& header) {
  const auto& headers = public_headers();
  return std::find(headers.begin(), headers.end(), header) != headers.end();
}

// What is wrong with `path` including the tree's header `target`; empty where nothing is.
std::string objection(const std::string& path, const std::string& target) {
  if (target == "weft.hpp")
    return layer_of(path) ? "the umbrella is for programs, not for the library" : "";
  if (const auto* allowed = layer_of(path))
    return any_within(target, *allowed) ? "" : "against the direction of the layers";
  if (path == "weft.hpp") return is_public(target) ? "" : "not a public header";
  if (within(path, "tests"))
    return any_within(target, {"bench", "samples"}) ? "tests include neither bench nor samples"
                                                    : "";
  if (within(path, "bench"))
    return is_public(target) || any_within(target, {"bench", "tests"}) ? "" : "not a public header";
  if (within(path, "samples"))
    return is_public(target) || within(target, "samples") ? "" : "not a public header";
  return "a folder that the rule does not know";
}

// Which files may see a third-party library.
struct ThirdParty {
  const char* header;  // a pattern for what stands between the brackets
  const char* files;   // a pattern for the paths that may include it
};

constexpr ThirdParty kThirdParty[] = {
    {"(oneapi/)?dnnl.*", "core/cpu/onednn(_.*)?\\.(cpp|hpp)"},
    {"(unsupported/)?Eigen/.*", "core/cpu/eigen(_.*)?\\.(cpp|hpp)"},
    {"CLI/.*", "(launcher|samples|bench)/.*"},
    {"yaml-cpp/.*", "core/base/.*\\.cpp"},
    {"nlohmann/.*", ".*\\.cpp"},
    {"spdlog/.*", "core/base/.*\\.cpp"},
    {"fmt/.*", "core/base/check\\.hpp|.*\\.cpp"},
    {"openssl/.*", "(core|dist|launcher)/.*\\.cpp"},
    {"doctest/.*", "tests/.*"},
    {"benchmark/.*", "bench/.*"},
    {"torch/.*", "bench/.*"},
    {"iostream|regex", ".*\\.cpp"},
    {"immintrin\\.h|x86intrin\\.h|.*intrin\\.h", "core/cpu/.*|tests/.*"},
};

}  // namespace

TEST_CASE("the rule of the layers finds what is against it") {
  CHECK(objection("core/tensor.cpp", "core/base/error.hpp").empty());
  CHECK_FALSE(objection("core/base/env.cpp", "core/tensor.hpp").empty());
  CHECK_FALSE(objection("core/tensor.cpp", "autograd/node.hpp").empty());
  CHECK_FALSE(objection("dist/store/tcp.cpp", "core/tensor.hpp").empty());
  CHECK(objection("dist/comm/shm.cpp", "core/tensor.hpp").empty());
  CHECK_FALSE(objection("dist/comm/shm.cpp", "bigmodel/planner.hpp").empty());
  CHECK_FALSE(objection("launcher/main.cpp", "core/tensor.hpp").empty());
  CHECK(objection("launcher/programs/test/ranks.cpp", "core/tensor.hpp").empty());
  CHECK_FALSE(objection("nn/layer.cpp", "weft.hpp").empty());
  CHECK_FALSE(objection("samples/train.cpp", "core/base/check.hpp").empty());
  CHECK(objection("samples/train.cpp", "weft.hpp").empty());
}

TEST_CASE("every include of a header of the tree follows the direction of the layers") {
  size_t seen = 0;
  for (const SourceFile& file : cpp_files())
    for (const Include& include : includes(file)) {
      if (!include.target.starts_with("weft/")) continue;
      ++seen;
      const std::string problem = objection(file.path, include.target.substr(5));
      CHECK_MESSAGE(problem.empty(),
                    file.path << ":" << include.line << ": " << include.target << ": " << problem);
    }
  CHECK(seen > 10);
}

TEST_CASE("headers are included with angled brackets, from the root of the tree") {
  for (const SourceFile& file : cpp_files()) {
    if (within(file.path, "tests/outside")) continue;
    for (const Include& include : includes(file))
      CHECK_MESSAGE((include.angled || include.target == "public_headers.hpp"),
                    file.path << ":" << include.line << ": " << include.target);
  }
}

TEST_CASE("third-party headers stay behind the files that need them") {
  for (const ThirdParty& library : kThirdParty) {
    const std::regex header(library.header), files(library.files);
    for (const SourceFile& file : cpp_files())
      for (const Include& include : includes(file))
        if (std::regex_match(include.target, header))
          CHECK_MESSAGE(std::regex_match(file.path, files),
                        file.path << ":" << include.line << ": " << include.target);
  }
}

TEST_CASE("no header of the tree is included twice by a file, and none includes itself") {
  for (const SourceFile& file : cpp_files()) {
    if (file.path.ends_with(".def")) continue;
    std::set<std::string> seen;
    for (const Include& include : includes(file)) {
      if (include.target.ends_with(".def")) continue;  // tables are expanded more than once
      CHECK_MESSAGE(seen.insert(include.target).second,
                    file.path << ":" << include.line << ": " << include.target);
      CHECK_MESSAGE(include.target != "weft/" + file.path, file.path);
    }
  }
}
