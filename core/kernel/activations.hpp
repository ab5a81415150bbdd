// Functors of the activations and their derivatives; see Note [Pointwise kernels]. A derivative
// takes the gradient first, then the input x or the output y of the function.
#pragma once

#include <weft/core/kernel/math.hpp>
#include <weft/core/pointwise_attrs.hpp>

namespace weft::inline v0::kernel {

struct Relu {
  template <class T>
  WEFT_HD T operator()(T x) const {
    const T y = x > T(0) ? x : T(0);
    return x == x ? y : x;
  }
};
struct ReluBackward {
  template <class T>
  WEFT_HD T operator()(T g, T y) const {
    return y > T(0) ? g : T(0);
  }
};

struct SigmoidBackward {
  template <class T>
  WEFT_HD T operator()(T g, T y) const {
    return g * (T(1) - y) * y;
  }
};

struct TanhBackward {
  template <class T>
  WEFT_HD T operator()(T g, T y) const {
    return g * (T(1) - y * y);
  }
};

struct Silu {
  template <class T>
  WEFT_HD T operator()(T x) const {
    return x / (T(1) + kernel::exp(-x));
  }
};
struct SiluBackward {
  template <class T>
  WEFT_HD T operator()(T g, T x) const {
    const T s = sigmoid(x);
    return g * s * (T(1) + x * (T(1) - s));
  }
};

// Hendrycks, Gimpel, Gaussian Error Linear Units, 2016: x times the normal distribution function,
// and the paper's approximation of it by tanh.
struct Gelu {
  template <class T>
  WEFT_HD T operator()(T x) const {
    return T(0.5) * x * (T(1) + kernel::erf(x * T(0.70710678118654752440)));
  }
};
struct GeluBackward {
  template <class T>
  WEFT_HD T operator()(T g, T x) const {
    const T distribution = T(0.5) * (T(1) + kernel::erf(x * T(0.70710678118654752440)));
    const T density = T(0.39894228040143267794) * exp_negative(T(-0.5) * x * x);
    return g * (distribution + x * density);
  }
};

inline constexpr double kGeluScale = 0.79788456080286535588;  // sqrt(2 / pi)
inline constexpr double kGeluCubic = 0.044715;

struct GeluTanh {
  template <class T>
  WEFT_HD T operator()(T x) const {
    const T u = x * (T(kGeluScale) + T(kGeluScale * kGeluCubic) * (x * x));
    return T(0.5) * x * (T(1) + kernel::tanh(u));
  }
};
struct GeluTanhBackward {
  template <class T>
  WEFT_HD T operator()(T g, T x) const {
    const T z = x * x;
    const T u = x * (T(kGeluScale) + T(kGeluScale * kGeluCubic) * z);
    const T slope = T(kGeluScale) + T(3 * kGeluScale * kGeluCubic) * z;
    const T t = kernel::tanh(u);
    return g * (T(0.5) * (T(1) + t) + T(0.5) * x * (T(1) - t * t) * slope);
  }
};

// Misra, Mish: A Self Regularized Non-Monotonic Activation Function, 2019. tanh(log(1 + e^x)) is
// w / (w + 2) with w = e^x (e^x + 2); from 20 on it is 1.
struct Mish {
  template <class T>
  WEFT_HD static T gate(T x) {
    const T e = kernel::exp(x > T(20) ? T(20) : x);
    const T w = e * (e + T(2));
    return w / (w + T(2));
  }
  template <class T>
  WEFT_HD T operator()(T x) const {
    return x * gate(x);
  }
};
struct MishBackward {
  template <class T>
  WEFT_HD T operator()(T g, T x) const {
    const T t = Mish::gate(x);
    return g * (t + x * sigmoid(x) * (T(1) - t * t));
  }
};

// Howard and others, Searching for MobileNetV3, 2019.
struct Hardswish {
  template <class T>
  WEFT_HD T operator()(T x) const {
    const T shifted = x + T(3);
    const T low = shifted < T(0) ? T(0) : shifted;
    return x * (low > T(6) ? T(6) : low) / T(6);
  }
};
struct HardswishBackward {
  template <class T>
  WEFT_HD T operator()(T g, T x) const {
    const T inside = g * (x / T(3) + T(0.5));
    return x <= T(-3) ? T(0) : (x < T(3) ? inside : g);
  }
};

struct Hardsigmoid {
  template <class T>
  WEFT_HD T operator()(T x) const {
    const T shifted = x + T(3);
    const T low = shifted < T(0) ? T(0) : shifted;
    return (low > T(6) ? T(6) : low) / T(6);
  }
};
struct HardsigmoidBackward {
  template <class T>
  WEFT_HD T operator()(T g, T x) const {
    const bool inside = (x > T(-3)) & (x < T(3));
    return inside ? g / T(6) : T(0);
  }
};

struct Softsign {
  template <class T>
  WEFT_HD T operator()(T x) const {
    return x / (T(1) + Abs()(x));
  }
};

/// log(sigmoid(x)) = min(x, 0) - log(1 + e^-|x|)
struct Logsigmoid {
  template <class T>
  WEFT_HD T operator()(T x) const {
    const T low = x < T(0) ? x : T(0);
    const T y = low - log1p_unit(exp_negative(-Abs()(x)));
    return x == x ? y : x;
  }
};

/// log(1 + e^(beta x)) / beta; x itself where beta x is above the threshold.
struct Softplus {
  SoftplusAttrs attrs;
  explicit Softplus(const Attrs& a) : attrs(a.as<SoftplusAttrs>()) {}
  template <class T>
  WEFT_HD T operator()(T x) const {
    const T u = x * static_cast<T>(attrs.beta);
    const T high = u > T(0) ? u : T(0);
    const T y = (high + log1p_unit(exp_negative(-Abs()(u)))) / static_cast<T>(attrs.beta);
    const T result = u > static_cast<T>(attrs.threshold) ? x : y;
    return x == x ? result : x;
  }
};
struct SoftplusBackward {
  SoftplusAttrs attrs;
  explicit SoftplusBackward(const Attrs& a) : attrs(a.as<SoftplusAttrs>()) {}
  template <class T>
  WEFT_HD T operator()(T g, T x) const {
    const T u = x * static_cast<T>(attrs.beta);
    return u > static_cast<T>(attrs.threshold) ? g : g * sigmoid(u);
  }
};

/// scale * (x above 0, alpha (e^x - 1) below). Clevert and others, 2015; Klambauer and others,
/// 2017.
struct Elu {
  EluAttrs attrs;
  explicit Elu(const Attrs& a) : attrs(a.as<EluAttrs>()) {}
  template <class T>
  WEFT_HD T operator()(T x) const {
    const T low = static_cast<T>(attrs.alpha * attrs.scale) * kernel::expm1(x > T(0) ? T(0) : x);
    return x > T(0) ? static_cast<T>(attrs.scale) * x : low;
  }
};
struct EluBackward {
  EluAttrs attrs;
  explicit EluBackward(const Attrs& a) : attrs(a.as<EluAttrs>()) {}
  template <class T>
  WEFT_HD T operator()(T g, T x) const {
    const T slope = static_cast<T>(attrs.alpha * attrs.scale) * kernel::exp(x > T(0) ? T(0) : x);
    return g * (x > T(0) ? static_cast<T>(attrs.scale) : slope);
  }
};

struct LeakyRelu {
  double slope;
  explicit LeakyRelu(const Attrs& a) : slope(a.as<double>()) {}
  template <class T>
  WEFT_HD T operator()(T x) const {
    return x > T(0) ? x : x * static_cast<T>(slope);
  }
};
struct LeakyReluBackward {
  double slope;
  explicit LeakyReluBackward(const Attrs& a) : slope(a.as<double>()) {}
  template <class T>
  WEFT_HD T operator()(T g, T x) const {
    return x > T(0) ? g : g * static_cast<T>(slope);
  }
};

/// The bounds of clamp and hardtanh; an absent one limits nothing.
struct Bounds {
  ClampAttrs attrs;
  explicit Bounds(const Attrs& a) : attrs(a.as<ClampAttrs>()) {}
  template <class T>
  WEFT_HD T low() const {
    if constexpr (kIsWhole<T>)
      return attrs.has_min ? attrs.min.whole : INT64_MIN;
    else
      return attrs.has_min ? static_cast<T>(attrs.min.real) : -static_cast<T>(kInfinity);
  }
  template <class T>
  WEFT_HD T high() const {
    if constexpr (kIsWhole<T>)
      return attrs.has_max ? attrs.max.whole : INT64_MAX;
    else
      return attrs.has_max ? static_cast<T>(attrs.max.real) : static_cast<T>(kInfinity);
  }
};

/// The upper bound wins where the bounds are crossed; NaN stays.
struct Clamp : Bounds {
  using Bounds::Bounds;
  template <class T>
  WEFT_HD T operator()(T x) const {
    const T raised = x < low<T>() ? low<T>() : x;
    return raised > high<T>() ? high<T>() : raised;
  }
};
/// clamp passes gradients on its bounds, hardtanh does not.
struct ClampBackward : Bounds {
  using Bounds::Bounds;
  template <class T>
  WEFT_HD T operator()(T g, T x) const {
    const T lowest = low<T>(), highest = high<T>();
    const bool inside = (x >= lowest) & (x <= highest);
    return inside ? g : T(0);
  }
};
struct HardtanhBackward : Bounds {
  using Bounds::Bounds;
  template <class T>
  WEFT_HD T operator()(T g, T x) const {
    const T lowest = low<T>(), highest = high<T>();
    const bool inside = (x > lowest) & (x < highest);
    return inside ? g : T(0);
  }
};

/// a + weight (b - a), from the nearer end, so that weight 1 gives b exactly.
struct Lerp {
  double weight;
  explicit Lerp(const Attrs& a) : weight(a.as<double>()) {}
  template <class T>
  WEFT_HD T operator()(T a, T b) const {
    const T w = static_cast<T>(weight);
    return weight < 0.5 ? a + w * (b - a) : b - (b - a) * (T(1) - w);
  }
};

struct Addcmul {
  double value;
  explicit Addcmul(const Attrs& a) : value(a.as<double>()) {}
  template <class T>
  WEFT_HD T operator()(T x, T a, T b) const {
    return x + static_cast<T>(value) * a * b;
  }
};
struct Addcdiv {
  double value;
  explicit Addcdiv(const Attrs& a) : value(a.as<double>()) {}
  template <class T>
  WEFT_HD T operator()(T x, T a, T b) const {
    return x + static_cast<T>(value) * a / b;
  }
};

}  // namespace weft::inline v0::kernel
