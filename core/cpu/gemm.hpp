// Matrix products on the CPU, for kernels. No third-party type: onednn_gemm.cpp and eigen_gemm.cpp
// do the work behind it.
#pragma once

#include <cstddef>
#include <cstdint>

#include <weft/core/dtype.hpp>
#include <weft/core/shape.hpp>

namespace weft::inline v0::detail {

/// A matrix in memory; strides in elements, any value.
struct GemmMatrix {
  const void* data = nullptr;
  int64_t row_stride = 0;
  int64_t column_stride = 1;
};

/// c [m, n] = a [m, k] b [k, n] (+ bias), for each item of a batch.
struct GemmCall {
  DType dtype = DType::f32;  ///< of all four; bool is refused
  int64_t m = 0, n = 0, k = 0;
  GemmMatrix a, b;
  void* c = nullptr;
  int64_t c_row_stride = 0;    ///< at least n; the columns lie packed
  const void* bias = nullptr;  ///< [n], packed, added to each row; null for none
  Shape batch = {};            ///< empty: one product
  Strides a_batch = {}, b_batch = {}, c_batch = {};  ///< one each per batch dim, in elements
  bool deterministic = false;  ///< the split over threads must not depend on their number
};

/// Runs it on all threads. 16-bit floats are summed in f32 and rounded once. k = 0 gives the bias,
/// or zeros.
void gemm(const GemmCall& call);

/// One product of packed-enough matrices on the calling thread, for tiles inside a kernel's tasks:
/// c [m, n] = op(a) op(b) (+ c). `lda` and `ldb` are the strides of the rows as stored; a
/// transposed `a` is stored as [k, m], a transposed `b` as [n, k].
struct GemmTile {
  int64_t m = 0, n = 0, k = 0;
  const void* a = nullptr;
  int64_t lda = 0;
  bool a_transposed = false;
  const void* b = nullptr;
  int64_t ldb = 0;
  bool b_transposed = false;
  void* c = nullptr;
  int64_t ldc = 0;
  const void* bias = nullptr;  ///< as in GemmCall; not together with `accumulate`
  bool accumulate = false;
};

void gemm_tile_f32(const GemmTile& tile);
void gemm_tile_f64(const GemmTile& tile);

#ifdef WEFT_HAS_ONEDNN
void onednn_gemm_f32(const GemmTile& tile);
/// Whether this CPU multiplies bf16 matrices natively.
bool onednn_has_bf16();
void onednn_gemm_bf16(const GemmTile& tile);
#endif
void eigen_gemm_f32(const GemmTile& tile);
void eigen_gemm_f64(const GemmTile& tile);

}  // namespace weft::inline v0::detail
