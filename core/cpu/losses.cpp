// Cross entropy over logits [rows, classes] and class numbers.
#include <weft/core/cpu/strided.hpp>
#include <weft/core/ops_internal.hpp>
#include <weft/core/row_attrs.hpp>

namespace weft::inline v0::WEFT_LEVEL {

namespace {

// The loss of row i with class t, logarithm of the sum of exponentials l, smoothing s and class
// weights w (1 where there are none):
//   (1 - s) w[t] (l - x[t])  +  s / classes * sum_c w[c] (l - x[c])
// and its mean divides by the sum of w[t]. Rows of class ignore_index count nowhere.

template <class T>
Compute<T> log_sum_exp(const T* x, int64_t n) {
  using S = Compute<T>;
  const S most =
      fold_row<Larger>(x, n, -std::numeric_limits<S>::infinity(), [](auto v) { return v; });
  if (most == -std::numeric_limits<S>::infinity()) return most;
  return most + log_of(fold_row<Plus>(x, n, S(0), [most](auto v) { return exp_of(v - most); }));
}

template <class T>
struct Losses {
  using S = Compute<T>;
  const T* logits;
  const int64_t* targets;
  const T* weight;  // null: all 1
  int64_t rows, classes;
  CrossEntropyAttrs attrs;
  S weight_sum = 0;

  bool ignored(int64_t row) const { return targets[row] == attrs.ignore_index; }
  S weight_of(int64_t c) const { return weight == nullptr ? S(1) : widen(weight[c]); }
  S smoothing() const { return static_cast<S>(attrs.label_smoothing); }

  /// Sum of the weighted logits of a row, for smoothing.
  S weighted_sum(const T* x) const {
    if (weight == nullptr) return fold_row<Plus>(x, classes, S(0), [](auto v) { return v; });
    S sum = 0;
    for (int64_t c = 0; c < classes; ++c) sum += widen(weight[c]) * widen(x[c]);
    return sum;
  }

  S loss(int64_t row, S lse) const {
    const T* x = logits + row * classes;
    const S hit = weight_of(targets[row]) * (lse - widen(x[targets[row]]));
    if (attrs.label_smoothing == 0) return hit;
    const S all = weight_sum * lse - weighted_sum(x);
    return (S(1) - smoothing()) * hit + smoothing() / static_cast<S>(classes) * all;
  }

  void gradient(int64_t row, S lse, S grad, T* dx) const {
    const T* x = logits + row * classes;
    if (ignored(row)) {
      for (int64_t c = 0; c < classes; ++c) narrow(dx + c, S(0));
      return;
    }
    const int64_t t = targets[row];
    const S hit = (S(1) - smoothing()) * weight_of(t) * grad;
    const S each = smoothing() / static_cast<S>(classes) * grad;
    const S scale = hit + each * weight_sum;
    if (each == S(0))
      map_row(x, dx, classes, [lse, scale](auto v) { return exp_of(v - lse) * scale; });
    else if (weight == nullptr)
      map_row(x, dx, classes, [=](auto v) { return exp_of(v - lse) * scale - each; });
    else
      map_row(x, weight, dx, classes,
              [=](auto v, auto w) { return exp_of(v - lse) * scale - w * each; });
    // The class's own element anew: taking `hit` off the stored one would round 16-bit types twice.
    const S own = exp_one(widen(x[t]) - lse) * scale - each * weight_of(t) - hit;
    narrow(dx + t, own);
  }

  static S exp_one(S x) {
    const Vector<S> v = Vector<S>{} + x;
    return exp_of(v)[0];
  }
};

template <class T>
Losses<T> make_losses(Context& context, const Attrs& attrs, TensorRef logits, TensorRef targets,
                      TensorRef weight) {
  Losses<T> losses;
  losses.logits = packed<T>(context, logits);
  losses.targets = packed<int64_t>(context, targets);
  losses.weight = weight == nullptr ? nullptr : packed<T>(context, weight);
  losses.rows = logits->shape[0];
  losses.classes = logits->shape[1];
  losses.attrs = attrs.as<CrossEntropyAttrs>();
  losses.weight_sum = static_cast<Compute<T>>(losses.classes);
  if (weight != nullptr)
    losses.weight_sum =
        fold_row<Plus>(losses.weight, losses.classes, Compute<T>(0), [](auto v) { return v; });
  return losses;
}

template <class T>
void check_classes(const Losses<T>& losses) {
  for (int64_t r = 0; r < losses.rows; ++r) {
    const int64_t t = losses.targets[r];
    if (t != losses.attrs.ignore_index && (t < 0 || t >= losses.classes))
      detail::fail_class("cross_entropy", t, r, losses.classes);
  }
}

}  // namespace

// Outputs: the loss, the rows' log of the sum of exponentials, and what a mean divides by.
WEFT_KERNEL(cross_entropy) {
  for_floating(inputs[0]->dtype, [&](auto zero) {
    using T = decltype(zero);
    using S = Compute<T>;
    const Losses<T> losses = make_losses<T>(context, attrs, inputs[0], inputs[1], inputs[2]);
    check_classes(losses);
    const bool none = losses.attrs.reduction == Reduction::none;
    T* out = context.data<T>(outputs[0]);
    S* lse = context.data<S>(outputs[1]);
    S* each =
        none
            ? nullptr
            : reinterpret_cast<S*>(context.workspace(static_cast<size_t>(losses.rows) * sizeof(S)));
    parallel_for(losses.rows, rows_per_task(losses.classes, 1 << 13),
                 [=](int64_t begin, int64_t end) {
                   for (int64_t r = begin; r < end; ++r) {
                     S loss = 0;
                     lse[r] = losses.ignored(r)
                                  ? S(0)
                                  : log_sum_exp(losses.logits + r * losses.classes, losses.classes);
                     if (!losses.ignored(r)) loss = losses.loss(r, lse[r]);
                     if (none)
                       narrow(out + r, loss);
                     else
                       each[r] = loss;
                   }
                 });
    double divisor = 0;
    for (int64_t r = 0; r < losses.rows; ++r)
      if (!losses.ignored(r)) divisor += static_cast<double>(losses.weight_of(losses.targets[r]));
    *context.data<S>(outputs[2]) = static_cast<S>(divisor);
    if (none) return;
    double sum = 0;
    for (int64_t r = 0; r < losses.rows; ++r) sum += static_cast<double>(each[r]);
    if (losses.attrs.reduction == Reduction::mean) sum /= divisor;
    narrow(out, static_cast<S>(sum));
  });
}

// Inputs: gradient of the loss, logits, targets, weight, and the outputs 1 and 2 above.
WEFT_KERNEL(cross_entropy_backward) {
  for_floating(inputs[1]->dtype, [&](auto zero) {
    using T = decltype(zero);
    using S = Compute<T>;
    const Losses<T> losses = make_losses<T>(context, attrs, inputs[1], inputs[2], inputs[3]);
    const T* grads = packed<T>(context, inputs[0]);
    const S* lse = packed<S>(context, inputs[4]);
    const bool none = losses.attrs.reduction == Reduction::none;
    S scale = 1;
    if (losses.attrs.reduction == Reduction::mean) scale = S(1) / *context.data<S>(inputs[5]);
    T* dx = context.data<T>(outputs[0]);
    parallel_for(
        losses.rows, rows_per_task(losses.classes, 1 << 13), [=](int64_t begin, int64_t end) {
          for (int64_t r = begin; r < end; ++r)
            losses.gradient(r, lse[r], widen(grads[none ? r : 0]) * scale, dx + r * losses.classes);
        });
  });
}

}  // namespace weft::inline v0::WEFT_LEVEL
