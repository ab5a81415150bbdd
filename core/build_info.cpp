#include <weft/core/build_info.hpp>

#include <string>

#include <weft/core/base/check.hpp>
#include <weft/core/cpu/level.hpp>

namespace weft::inline v0 {

namespace {

#if defined(__clang__)
constexpr const char* kCompiler = "clang " __clang_version__;
#elif defined(__GNUC__)
constexpr const char* kCompiler = "g++ " __VERSION__;
#else
constexpr const char* kCompiler = "unknown";
#endif

std::string level_here() {
  try {
    return detail::name_of(detail::cpu_level());
  } catch (const Error& error) {
    return error.what();
  }
}

}  // namespace

const char* version() { return WEFT_VERSION; }

const char* build_info() {
  static const std::string text = fmt::format(
      "version: {}\ncompiler: {}\nbuild type: {}\noptions: {}\nCPU levels: {}\nCPU level: {}\n",
      WEFT_VERSION, kCompiler, WEFT_BUILD_TYPE, WEFT_BUILD_OPTIONS, WEFT_BUILD_LEVELS,
      level_here());
  return text.c_str();
}

}  // namespace weft::inline v0
