// How many ranks the CPUs of this host are for.
#pragma once

#include <weft/core/base/cpus.hpp>

namespace weft::inline v0::launcher {

using weft::detail::allowed_cores;
using weft::detail::allowed_cpus;
using weft::detail::cgroup_cpus;

/// What `-n auto` means without GPUs: the allowed cores by the threads per rank, at least 1.
int automatic_ranks(int threads_per_rank);

}  // namespace weft::inline v0::launcher
