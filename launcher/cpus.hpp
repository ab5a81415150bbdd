// How many ranks the CPUs of this host are for.
#pragma once

#include <weft/core/base/cpus.hpp>

namespace weft::inline v0::launcher {

using weft::detail::allowed_cores;
using weft::detail::allowed_cpus;
using weft::detail::cgroup_cpus;

/// What `-n auto` means without GPUs: the allowed cores by the threads per rank (WEFT_NUM_THREADS,
/// else 1), at least 1. Throws LaunchError where WEFT_NUM_THREADS is no number.
int automatic_ranks();

}  // namespace weft::inline v0::launcher
