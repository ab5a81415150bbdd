// The loop around every pointwise op. Note [Pointwise kernels] is in pointwise.cpp.
#pragma once

#include <type_traits>

#include <weft/core/cpu/kernel.hpp>
#include <weft/core/kernel/macros.hpp>

namespace weft::inline v0::WEFT_LEVEL {

/// Computes n packed elements. Inputs and `out` may be the same memory.
using Block = void (*)(const void* const* in, void* out, int64_t n, const Attrs& attrs);

/// One op: its loop for each type that it computes in (null where it does not).
struct PointwiseOp {
  Block f32 = nullptr;  ///< f32 and the 16-bit floats
  Block f64 = nullptr;
  Block whole = nullptr;  ///< int64: all whole numbers and truth values; f32 does them where null
  bool truth = false;     ///< results are truth values, not of the type of the inputs
  int32_t grain = 0;      ///< elements that take about 20 us
};

/// Elements that take about 20 us: arithmetic, own transcendental functions, libm.
inline constexpr int32_t kLight = 65536, kMedium = 16384, kHeavy = 2048;

void run_pointwise(const PointwiseOp& op, Context& context, const Attrs& attrs, Inputs inputs,
                   TensorRef output);

/// The loop of functor F over N inputs of type T with results of type R. F is made from the op's
/// attributes where it has such a constructor.
template <class F, class T, class R, int N>
void compute_block(const void* const* in, void* out, int64_t n,
                   [[maybe_unused]] const Attrs& attrs) {
  const F f = [&] {
    if constexpr (std::is_constructible_v<F, const Attrs&>)
      return F(attrs);
    else
      return F();
  }();
  R* o = static_cast<R*>(out);
  const T* a = static_cast<const T*>(in[0]);
  if constexpr (N == 1) {
    WEFT_INDEPENDENT
    for (int64_t i = 0; i < n; ++i) o[i] = f(a[i]);
  } else if constexpr (N == 2) {
    const T* b = static_cast<const T*>(in[1]);
    WEFT_INDEPENDENT
    for (int64_t i = 0; i < n; ++i) o[i] = f(a[i], b[i]);
  } else {
    static_assert(N == 3);
    const T* b = static_cast<const T*>(in[1]);
    const T* c = static_cast<const T*>(in[2]);
    WEFT_INDEPENDENT
    for (int64_t i = 0; i < n; ++i) o[i] = f(a[i], b[i], c[i]);
  }
}

}  // namespace weft::inline v0::WEFT_LEVEL

/// Kernels of the row `name` made of `functor`: for floating-point types alone (whole numbers are
/// computed in f32), for all types, for whole numbers alone, and with truth values as results.
#define WEFT_POINTWISE_FLOAT(name, functor, inputs_, grain_)                                   \
  WEFT_KERNEL(name) {                                                                          \
    static constexpr PointwiseOp kOp{compute_block<functor, float, float, inputs_>,            \
                                     compute_block<functor, double, double, inputs_>, nullptr, \
                                     false, grain_};                                           \
    run_pointwise(kOp, context, attrs, inputs, outputs[0]);                                    \
  }
#define WEFT_POINTWISE(name, functor, inputs_, grain_)                                         \
  WEFT_KERNEL(name) {                                                                          \
    static constexpr PointwiseOp kOp{compute_block<functor, float, float, inputs_>,            \
                                     compute_block<functor, double, double, inputs_>,          \
                                     compute_block<functor, int64_t, int64_t, inputs_>, false, \
                                     grain_};                                                  \
    run_pointwise(kOp, context, attrs, inputs, outputs[0]);                                    \
  }
#define WEFT_POINTWISE_WHOLE(name, functor, inputs_, grain_)                                 \
  WEFT_KERNEL(name) {                                                                        \
    static constexpr PointwiseOp kOp{                                                        \
        nullptr, nullptr, compute_block<functor, int64_t, int64_t, inputs_>, false, grain_}; \
    run_pointwise(kOp, context, attrs, inputs, outputs[0]);                                  \
  }
#define WEFT_POINTWISE_TRUTH(name, functor, inputs_, grain_)                               \
  WEFT_KERNEL(name) {                                                                      \
    static constexpr PointwiseOp kOp{compute_block<functor, float, bool, inputs_>,         \
                                     compute_block<functor, double, bool, inputs_>,        \
                                     compute_block<functor, int64_t, bool, inputs_>, true, \
                                     grain_};                                              \
    run_pointwise(kOp, context, attrs, inputs, outputs[0]);                                \
  }
