// Fuzzing hostfiles: any bytes give hosts that stand once each, or a LaunchError with its place.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <set>
#include <string>
#include <string_view>

#include <weft/launcher/error.hpp>
#include <weft/launcher/hostfile.hpp>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace weft::launcher;
  try {
    const auto entries =
        parse_hostfile(std::string_view(reinterpret_cast<const char*>(data), size), "hosts");
    std::set<std::string> seen;
    for (const auto& entry : entries)
      if (entry.host.empty() || entry.host.front() == '-' || entry.slots < 0 ||
          !seen.insert(entry.host).second)
        std::abort();
    if (entries.empty()) std::abort();
  } catch (const LaunchError& error) {
    if (error.code() != kExitUsage || std::string(error.what()).find("hosts:") != 0) std::abort();
  }
  return 0;
}
