// Marks for functions that the CPU loops and (under nvcc) the CUDA kernels share.
#pragma once

#if defined(__CUDACC__)
#define WEFT_HD __host__ __device__ __forceinline__
#else
#define WEFT_HD [[gnu::always_inline]]
#endif

// Before a loop whose iterations touch only their own elements: inputs and outputs may be the same
// memory (in place), which the compiler must not take for a dependence between iterations.
#if defined(__clang__)
#define WEFT_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define WEFT_INDEPENDENT _Pragma("GCC ivdep")
#else
#define WEFT_INDEPENDENT
#endif
