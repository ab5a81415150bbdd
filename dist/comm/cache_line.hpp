// Cache lines that go back and forth between ranks.
#pragma once

namespace weft::inline v0::dist::detail {

/// Asks for a cache line so that a store to it soon will not wait. What the compiler offers for
/// that asks, on x86 without a flag for newer CPUs, for a copy to read alone, which the store must
/// then turn into one to write: a second way to the other CPU.
[[gnu::always_inline]] inline void fetch_to_write(const void* line) {
#if defined(__x86_64__)
  asm volatile("prefetchw %0" : : "m"(*static_cast<const char*>(line)));
#else
  __builtin_prefetch(line, 1, 3);
#endif
}

}  // namespace weft::inline v0::dist::detail
