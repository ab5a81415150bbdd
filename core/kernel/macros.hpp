// Marks for functions that the CPU loops and (under nvcc) the CUDA kernels share.
#pragma once

#if defined(__CUDACC__)
#define WEFT_HD __host__ __device__ __forceinline__
#else
#define WEFT_HD [[gnu::always_inline]]
#endif
