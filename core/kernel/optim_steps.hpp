// One element's step of each optimizer, PyTorch's arithmetic. C is float or double; `p` parameter,
// `g` gradient, then the optimizer's states.
#pragma once

#include <weft/core/kernel/macros.hpp>
#include <weft/core/optim_attrs.hpp>

namespace weft::inline v0::kernel {

WEFT_HD inline float square_root(float x) { return __builtin_sqrtf(x); }
WEFT_HD inline double square_root(double x) { return __builtin_sqrt(x); }

/// The gradient's sign (maximize) and the weight decay that is added to it.
template <class C>
struct Decay {
  C sign, add, keep;
  explicit Decay(const StepAttrs& a)
      : sign(a.maximize ? C(-1) : C(1)),
        add(a.decoupled ? C(0) : static_cast<C>(a.weight_decay)),
        keep(a.decoupled ? static_cast<C>(1 - a.lr * a.weight_decay) : C(1)) {}
  WEFT_HD C gradient(C p, C g) const { return sign * g + add * p; }
};

template <class C>
struct SgdStep {
  static constexpr int kStates = 0;
  Decay<C> decay;
  C lr;
  explicit SgdStep(const StepAttrs& a) : decay(a), lr(static_cast<C>(a.lr)) {}
  WEFT_HD void operator()(C& p, C g) const { p -= lr * decay.gradient(p, g); }
};

template <class C>
struct SgdMomentumStep {
  static constexpr int kStates = 1;
  Decay<C> decay;
  C lr, momentum, old, fresh;
  bool nesterov;
  explicit SgdMomentumStep(const StepAttrs& a)
      : decay(a),
        lr(static_cast<C>(a.lr)),
        momentum(static_cast<C>(a.momentum)),
        old(a.first ? C(0) : momentum),
        fresh(a.first ? C(1) : static_cast<C>(1 - a.dampening)),
        nesterov(a.nesterov) {}
  WEFT_HD void operator()(C& p, C g, C& buffer) const {
    const C d = decay.gradient(p, g);
    buffer = old * buffer + fresh * d;
    p -= lr * (nesterov ? d + momentum * buffer : buffer);
  }
};

/// Kingma and Ba, Adam, 2015; decoupled: Loshchilov and Hutter, 2019.
template <class C>
struct AdamStep {
  static constexpr int kStates = 2;
  Decay<C> decay;
  C take1, beta2, take2, eps, size, root;
  explicit AdamStep(const StepAttrs& a)
      : decay(a),
        take1(static_cast<C>(1 - a.beta1)),
        beta2(static_cast<C>(a.beta2)),
        take2(static_cast<C>(1 - a.beta2)),
        eps(static_cast<C>(a.eps)),
        size(static_cast<C>(a.lr / a.correction1)),
        root(static_cast<C>(1 / __builtin_sqrt(a.correction2))) {}
  WEFT_HD void moments(C& p, C g, C& mean, C& square) const {
    p *= decay.keep;
    const C d = decay.gradient(p, g);
    mean += take1 * (d - mean);
    square = beta2 * square + take2 * d * d;
  }
  WEFT_HD void operator()(C& p, C g, C& mean, C& square) const {
    moments(p, g, mean, square);
    p -= size * mean / (square_root(square) * root + eps);
  }
};

/// Reddi et al., On the Convergence of Adam and Beyond, 2018.
template <class C>
struct AmsgradStep : AdamStep<C> {
  static constexpr int kStates = 3;
  explicit AmsgradStep(const StepAttrs& a) : AdamStep<C>(a) {}
  WEFT_HD void operator()(C& p, C g, C& mean, C& square, C& largest) const {
    this->moments(p, g, mean, square);
    largest = largest > square ? largest : square;
    p -= this->size * mean / (square_root(largest) * this->root + this->eps);
  }
};

/// Dozat, Incorporating Nesterov Momentum into Adam, 2016. `lr` is the factor of the gradient,
/// `momentum` that of the mean.
template <class C>
struct NadamStep {
  static constexpr int kStates = 2;
  AdamStep<C> adam;
  C of_gradient, of_mean;
  explicit NadamStep(const StepAttrs& a)
      : adam(a), of_gradient(static_cast<C>(a.lr)), of_mean(static_cast<C>(a.momentum)) {}
  WEFT_HD void operator()(C& p, C g, C& mean, C& square) const {
    const C d = adam.decay.gradient(p, g);
    adam.moments(p, g, mean, square);
    const C scale = C(1) / (square_root(square) * adam.root + adam.eps);
    p -= (of_gradient * d + of_mean * mean) * scale;
  }
};

/// Adam with the infinity norm, in the same paper.
template <class C>
struct AdamaxStep {
  static constexpr int kStates = 2;
  Decay<C> decay;
  C take1, beta2, eps, size;
  explicit AdamaxStep(const StepAttrs& a)
      : decay(a),
        take1(static_cast<C>(1 - a.beta1)),
        beta2(static_cast<C>(a.beta2)),
        eps(static_cast<C>(a.eps)),
        size(static_cast<C>(a.lr / a.correction1)) {}
  WEFT_HD void operator()(C& p, C g, C& mean, C& largest) const {
    const C d = decay.gradient(p, g);
    mean += take1 * (d - mean);
    const C faded = largest * beta2, magnitude = (d < C(0) ? -d : d) + eps;
    largest = faded > magnitude ? faded : magnitude;
    p -= size * mean / largest;
  }
};

/// Hinton's lecture 6e, 2012. The states: mean square, momentum, mean (used where centered or with
/// momentum).
template <class C, bool Momentum, bool Centered>
struct RmspropStep {
  static constexpr int kStates = 3;
  Decay<C> decay;
  C lr, alpha, take, eps, momentum;
  explicit RmspropStep(const StepAttrs& a)
      : decay(a),
        lr(static_cast<C>(a.lr)),
        alpha(static_cast<C>(a.beta2)),
        take(static_cast<C>(1 - a.beta2)),
        eps(static_cast<C>(a.eps)),
        momentum(static_cast<C>(a.momentum)) {}
  WEFT_HD void operator()(C& p, C g, C& square, C& buffer, C& mean) const {
    const C d = decay.gradient(p, g);
    square = alpha * square + take * d * d;
    C spread = square;
    if constexpr (Centered) {
      mean += take * (d - mean);
      spread -= mean * mean;
    }
    C change = d / (square_root(spread) + eps);
    if constexpr (Momentum) change = buffer = momentum * buffer + change;
    p -= lr * change;
  }
};

/// Duchi et al., Adaptive Subgradient Methods, 2011.
template <class C>
struct AdagradStep {
  static constexpr int kStates = 1;
  Decay<C> decay;
  C lr, eps;
  explicit AdagradStep(const StepAttrs& a)
      : decay(a), lr(static_cast<C>(a.lr)), eps(static_cast<C>(a.eps)) {}
  WEFT_HD void operator()(C& p, C g, C& sum) const {
    const C d = decay.gradient(p, g);
    sum += d * d;
    p -= lr * d / (square_root(sum) + eps);
  }
};

/// Zeiler, ADADELTA, 2012.
template <class C>
struct AdadeltaStep {
  static constexpr int kStates = 2;
  Decay<C> decay;
  C lr, rho, take, eps;
  explicit AdadeltaStep(const StepAttrs& a)
      : decay(a),
        lr(static_cast<C>(a.lr)),
        rho(static_cast<C>(a.beta2)),
        take(static_cast<C>(1 - a.beta2)),
        eps(static_cast<C>(a.eps)) {}
  WEFT_HD void operator()(C& p, C g, C& square, C& moved) const {
    const C d = decay.gradient(p, g);
    square = rho * square + take * d * d;
    const C change = square_root(moved + eps) / square_root(square + eps) * d;
    moved = rho * moved + take * change * change;
    p -= lr * change;
  }
};

}  // namespace weft::inline v0::kernel
