// Products through Eigen: f64 always, f32 where oneDNN was left out of the build.
#include <Eigen/Core>

#include <weft/core/cpu/gemm.hpp>

namespace weft::inline v0::detail {

namespace {

template <class T>
using RowMajor = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <class T>
using ColumnMajor = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::ColMajor>;
template <class M>
using View = Eigen::Map<const M, Eigen::Unaligned, Eigen::OuterStride<>>;

template <class C, class A, class B>
void product(C& c, const A& a, const B& b, bool accumulate) {
  if (accumulate)
    c.noalias() += a * b;
  else
    c.noalias() = a * b;
}

template <class T>
void eigen_gemm(const GemmTile& t) {
  using Row = RowMajor<T>;
  using Column = ColumnMajor<T>;
  Eigen::Map<Row, Eigen::Unaligned, Eigen::OuterStride<>> c(static_cast<T*>(t.c), t.m, t.n,
                                                            Eigen::OuterStride<>(t.ldc));
  const bool sum = t.accumulate || t.bias != nullptr;
  if (t.bias != nullptr) {
    const Eigen::Map<const Eigen::Matrix<T, 1, Eigen::Dynamic>> bias(static_cast<const T*>(t.bias),
                                                                     t.n);
    c.rowwise() = bias;
  }
  const T* a = static_cast<const T*>(t.a);
  const T* b = static_cast<const T*>(t.b);
  const Eigen::OuterStride<> lda(t.lda), ldb(t.ldb);
  // A transposed operand, stored by rows, is an untransposed one stored by columns.
  if (t.a_transposed && t.b_transposed)
    product(c, View<Column>(a, t.m, t.k, lda), View<Column>(b, t.k, t.n, ldb), sum);
  else if (t.a_transposed)
    product(c, View<Column>(a, t.m, t.k, lda), View<Row>(b, t.k, t.n, ldb), sum);
  else if (t.b_transposed)
    product(c, View<Row>(a, t.m, t.k, lda), View<Column>(b, t.k, t.n, ldb), sum);
  else
    product(c, View<Row>(a, t.m, t.k, lda), View<Row>(b, t.k, t.n, ldb), sum);
}

}  // namespace

void eigen_gemm_f32(const GemmTile& tile) { eigen_gemm<float>(tile); }
void eigen_gemm_f64(const GemmTile& tile) { eigen_gemm<double>(tile); }

}  // namespace weft::inline v0::detail
