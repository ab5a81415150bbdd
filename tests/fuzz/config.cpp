// Fuzzing configuration files: any bytes give settings or an error with its place; what is read,
// written again and read gives the same settings, as YAML and as JSON.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include <weft/launcher/config.hpp>
#include <weft/launcher/config_write.hpp>
#include <weft/launcher/error.hpp>

namespace {

using namespace weft::launcher;

bool same(const ConfigFile& a, const ConfigFile& b) {
  if (a.settings.size() != b.settings.size() || a.ignored != b.ignored) return false;
  for (size_t i = 0; i < a.settings.size(); ++i)
    if (a.settings[i].option != b.settings[i].option || a.settings[i].value != b.settings[i].value)
      return false;
  return true;
}

void check(std::string_view text) {
  const ConfigFile file = parse_config(text, "config");
  const weft::yaml::Node document = weft::yaml::parse(text, "config");
  for (const char* name : {"copy.yaml", "copy.json"})
    if (!same(file, parse_config(emit(document, name), name))) std::abort();
  resolve({}, file.settings, false, Sources::file_alone);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    check(text);
  } catch (const ConfigError& error) {
    if (std::string_view(error.what()).rfind("config:", 0) != 0) std::abort();
  } catch (const LaunchError& error) {
    if (error.code() != kExitUsage) std::abort();
  }
  return 0;
}
