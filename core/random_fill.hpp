// Runs of random numbers, for kernels. Not for users.
#pragma once

#include <cstdint>

#include <weft/core/random.hpp>

namespace weft::inline v0::detail {

// Element number i of a stream draws from counter offset + i / 4 (two of its words from counter
// offset + i / 2 where it needs 64 bits). Compiled once, not per CPU level: see Note [Random
// numbers].

/// Numbers first … first + n - 1 of a stream; `first` is a multiple of 4. Uniform in [0, 1) with
/// `digits` binary digits (at most 24).
void uniform_run(const PhiloxState& state, int64_t first, int64_t n, int digits, float* out);
/// The same with 53 digits.
void uniform_run(const PhiloxState& state, int64_t first, int64_t n, double* out);
/// Normal with mean 0 and variance 1.
void normal_run(const PhiloxState& state, int64_t first, int64_t n, float* out);
void normal_run(const PhiloxState& state, int64_t first, int64_t n, double* out);
/// Whole numbers in [low, low + range), range >= 1.
void integer_run(const PhiloxState& state, int64_t first, int64_t n, int64_t low, uint64_t range,
                 int64_t* out);

}  // namespace weft::inline v0::detail
