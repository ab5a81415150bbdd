#include <weft/core/cpu/level.hpp>

#include <atomic>
#include <string>

#include <weft/core/base/check.hpp>
#include <weft/core/base/env.hpp>

namespace weft::inline v0 {

// Defined in level_table.cpp, which is compiled once per level.
#ifdef WEFT_HAS_BASELINE
namespace cpu_baseline {
extern const KernelFn kKernels[];
}
#endif
#ifdef WEFT_HAS_AVX2
namespace cpu_avx2 {
extern const KernelFn kKernels[];
}
#endif
#ifdef WEFT_HAS_AVX512
namespace cpu_avx512 {
extern const KernelFn kKernels[];
}
#endif

namespace detail {

namespace {

constexpr const char* kLevelNames[] = {"baseline", "avx2", "avx512"};

bool cpu_has(CpuLevel level) {
#if defined(__x86_64__)
  switch (level) {
    case CpuLevel::baseline: return true;
    case CpuLevel::avx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
             __builtin_cpu_supports("bmi2");
    case CpuLevel::avx512:
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
             __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  }
  return false;
#else
  return level == CpuLevel::baseline;
#endif
}

const KernelFn* table_of(CpuLevel level) {
  switch (level) {
    case CpuLevel::baseline:
#ifdef WEFT_HAS_BASELINE
      return cpu_baseline::kKernels;
#else
      return nullptr;
#endif
    case CpuLevel::avx2:
#ifdef WEFT_HAS_AVX2
      return cpu_avx2::kKernels;
#else
      return nullptr;
#endif
    case CpuLevel::avx512:
#ifdef WEFT_HAS_AVX512
      return cpu_avx512::kKernels;
#else
      return nullptr;
#endif
  }
  return nullptr;
}

CpuLevel highest_allowed() {
  const auto text = env::get("WEFT_CPU_LEVEL");
  if (!text || *text == "amx") return CpuLevel::avx512;  // amx concerns oneDNN alone
  for (int i = 0; i < 3; ++i)
    if (*text == kLevelNames[i]) return static_cast<CpuLevel>(i);
  fail<ArgumentError>(
      "environment: WEFT_CPU_LEVEL={} is no level; use baseline, avx2, avx512 or amx", *text);
}

CpuLevel choose() {
  for (int level = static_cast<int>(highest_allowed()); level >= 0; --level)
    if (cpu_has(static_cast<CpuLevel>(level)) && table_of(static_cast<CpuLevel>(level)) != nullptr)
      return static_cast<CpuLevel>(level);
  fail<DeviceError>(
      "cpu: this build has kernels for no level that this CPU has and WEFT_CPU_LEVEL "
      "allows; build with -Dlevels=baseline");
}

}  // namespace

CpuLevel cpu_level() {
  static const CpuLevel level = choose();
  return level;
}

const char* name_of(CpuLevel level) { return kLevelNames[static_cast<int>(level)]; }

namespace {
constinit std::atomic<const KernelFn*> kernel_table{nullptr};
}

const KernelFn* cpu_kernel_table() {
  const KernelFn* table = kernel_table.load(std::memory_order_relaxed);
  if (table == nullptr) [[unlikely]] {
    table = table_of(cpu_level());  // the same for every thread that comes here
    kernel_table.store(table, std::memory_order_relaxed);
  }
  return table;
}

}  // namespace detail

}  // namespace weft::inline v0
