// Fuzzing the lists that SLURM writes: any bytes give a bounded list or an ArgumentError.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include <weft/core/base/error.hpp>
#include <weft/dist/store/nodelist.hpp>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace weft::dist::detail;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const auto hosts = expand_nodelist(text, "fuzz");
    if (hosts.empty() || hosts.size() > kMaxNodes) std::abort();
    for (const auto& host : hosts)
      if (host.empty() || host.size() > kMaxHostName || host.front() == '-') std::abort();
  } catch (const weft::ArgumentError&) {
    // A list that is refused by name is what most inputs should come to.
  }
  try {
    const auto counts = expand_counts(text, "fuzz");
    if (counts.empty() || counts.size() > kMaxNodes) std::abort();
    for (const int count : counts)
      if (count < 1) std::abort();
  } catch (const weft::ArgumentError&) {
    // as above
  }
  return 0;
}
