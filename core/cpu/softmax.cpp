// softmax, log_softmax and their gradients.
#include <weft/core/cpu/strided.hpp>
#include <weft/core/row_attrs.hpp>

namespace weft::inline v0::WEFT_LEVEL {

namespace {

/// One packed row. Three passes over memory that stays in the cache: maximum, sum of exponentials,
/// result. f32 and f64 keep the exponentials in the result and scale them; 16-bit rows would round
/// twice and compute them again.
template <class T, bool kLog>
void softmax_row(const T* x, T* y, int64_t n) {
  using S = Compute<T>;
  const S most =
      fold_row<Larger>(x, n, -std::numeric_limits<S>::infinity(), [](auto v) { return v; });
  if constexpr (kLog || sizeof(T) < 4) {
    const S sum = fold_row<Plus>(x, n, S(0), [most](auto v) { return exp_of(v - most); });
    if constexpr (kLog) {
      const S log_sum = log_of(sum);
      map_row(x, y, n, [most, log_sum](auto v) { return (v - most) - log_sum; });
    } else {
      const S scale = S(1) / sum;
      map_row(x, y, n, [most, scale](auto v) { return exp_of(v - most) * scale; });
    }
  } else {
    constexpr int kStep = kWidth<S>;
    Vector<S> a{}, b{};
    int64_t i = 0;
    for (; i + 2 * kStep <= n; i += 2 * kStep) {
      const Vector<S> e0 = exp_of(load(x + i) - most), e1 = exp_of(load(x + i + kStep) - most);
      store(y + i, e0);
      store(y + i + kStep, e1);
      a += e0;
      b += e1;
    }
    for (; i < n; i += kStep) {
      const int rest = n - i < kStep ? static_cast<int>(n - i) : kStep;
      const Vector<S> e = keep_lanes(exp_of(load_some(x + i, rest) - most), rest, S(0));
      store_some(y + i, e, rest);
      b += e;
    }
    const S scale = S(1) / fold_lanes<Plus, S>(a + b);
    map_row(y, y, n, [scale](auto v) { return v * scale; });
  }
}

/// A vector's width of columns (`count` of them used) that are `inner` apart from row to row.
template <class T, bool kLog>
WEFT_ROW void softmax_columns(const T* x, T* y, int64_t n, int64_t inner, int count) {
  using S = Compute<T>;
  const bool full = count == kWidth<S>;
  const auto at = [&](int64_t r) {
    return full ? load(x + r * inner) : load_some(x + r * inner, count);
  };
  Vector<S> most = at(0);
  for (int64_t r = 1; r < n; ++r) most = Larger::fold(most, at(r));
  Vector<S> sum{};
  for (int64_t r = 0; r < n; ++r) sum += exp_of(at(r) - most);
  Vector<S> last = sum;
  if constexpr (kLog)
    for (int i = 0; i < kWidth<S>; ++i) last[i] = log_of(sum[i]);
  else
    last = S(1) / sum;
  for (int64_t r = 0; r < n; ++r) {
    Vector<S> v = at(r) - most;
    if constexpr (kLog)
      v -= last;
    else
      v = exp_of(v) * last;
    if (full)
      store(y + r * inner, v);
    else
      store_some(y + r * inner, v, count);
  }
}

template <bool kLog>
WEFT_ROW void softmax_any(Context& context, const Attrs& attrs, Inputs inputs, Outputs outputs) {
  const DimView view(outputs[0]->shape, attrs.as<DimAttrs>().dim);
  if (outputs[0]->numel == 0) return;
  for_floating(outputs[0]->dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* x = packed<T>(context, inputs[0]);
    T* y = context.data<T>(outputs[0]);
    if (view.inner == 1) {
      parallel_for(view.outer, rows_per_task(view.size, 1 << 13), [=](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r)
          softmax_row<T, kLog>(x + r * view.size, y + r * view.size, view.size);
      });
      return;
    }
    constexpr int kStep = kWidth<Compute<T>>;
    const int64_t groups = (view.inner + kStep - 1) / kStep;
    parallel_for(view.outer * groups, rows_per_task(view.size * kStep, 1 << 13),
                 [=](int64_t begin, int64_t end) {
                   for (int64_t task = begin; task < end; ++task) {
                     const int64_t column = task % groups * kStep;
                     const int64_t left = view.inner - column;
                     const int64_t at = task / groups * view.size * view.inner + column;
                     softmax_columns<T, kLog>(x + at, y + at, view.size, view.inner,
                                              left < kStep ? static_cast<int>(left) : kStep);
                   }
                 });
  });
}

/// softmax: dx = y (g - sum(g y)). log_softmax: dx = g - exp(y) sum(g).
template <class T, bool kLog>
void backward_row(const T* g, const T* y, T* dx, int64_t n) {
  using S = Compute<T>;
  constexpr int kStep = kWidth<S>;
  Vector<S> a{}, b{};
  int64_t i = 0;
  const auto term = [](Vector<S> gv, Vector<S> yv) {
    if constexpr (kLog)
      return gv;
    else
      return gv * yv;
  };
  for (; i + 2 * kStep <= n; i += 2 * kStep) {
    a += term(load(g + i), load(y + i));
    b += term(load(g + i + kStep), load(y + i + kStep));
  }
  for (; i < n; i += kStep) {
    const int rest = n - i < kStep ? static_cast<int>(n - i) : kStep;
    b += term(load_some(g + i, rest), load_some(y + i, rest));
  }
  const S sum = fold_lanes<Plus, S>(a + b);
  map_row(g, y, dx, n, [sum](auto gv, auto yv) {
    if constexpr (kLog)
      return gv - exp_of(yv) * sum;
    else
      return (gv - sum) * yv;
  });
}

template <class T, bool kLog>
WEFT_ROW void backward_columns(const T* g, const T* y, T* dx, int64_t n, int64_t inner, int count) {
  using S = Compute<T>;
  Vector<S> sum{};
  for (int64_t r = 0; r < n; ++r) {
    const Vector<S> gv = load_some(g + r * inner, count);
    sum += kLog ? gv : gv * load_some(y + r * inner, count);
  }
  for (int64_t r = 0; r < n; ++r) {
    const Vector<S> gv = load_some(g + r * inner, count), yv = load_some(y + r * inner, count);
    store_some(dx + r * inner, kLog ? gv - exp_of(yv) * sum : (gv - sum) * yv, count);
  }
}

template <bool kLog>
WEFT_ROW void backward_any(Context& context, const Attrs& attrs, Inputs inputs, Outputs outputs) {
  const DimView view(outputs[0]->shape, attrs.as<DimAttrs>().dim);
  if (outputs[0]->numel == 0) return;
  for_floating(outputs[0]->dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* g = packed<T>(context, inputs[0]);
    const T* y = packed<T>(context, inputs[1]);
    T* dx = context.data<T>(outputs[0]);
    if (view.inner == 1) {
      parallel_for(view.outer, rows_per_task(view.size, 1 << 14), [=](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r)
          backward_row<T, kLog>(g + r * view.size, y + r * view.size, dx + r * view.size,
                                view.size);
      });
      return;
    }
    constexpr int kStep = kWidth<Compute<T>>;
    const int64_t groups = (view.inner + kStep - 1) / kStep;
    parallel_for(view.outer * groups, rows_per_task(view.size * kStep, 1 << 14),
                 [=](int64_t begin, int64_t end) {
                   for (int64_t task = begin; task < end; ++task) {
                     const int64_t column = task % groups * kStep;
                     const int64_t left = view.inner - column;
                     const int64_t at = task / groups * view.size * view.inner + column;
                     backward_columns<T, kLog>(g + at, y + at, dx + at, view.size, view.inner,
                                               left < kStep ? static_cast<int>(left) : kStep);
                   }
                 });
  });
}

}  // namespace

WEFT_KERNEL(softmax) { softmax_any<false>(context, attrs, inputs, outputs); }
WEFT_KERNEL(log_softmax) { softmax_any<true>(context, attrs, inputs, outputs); }
WEFT_KERNEL(softmax_backward) { backward_any<false>(context, attrs, inputs, outputs); }
WEFT_KERNEL(log_softmax_backward) { backward_any<true>(context, attrs, inputs, outputs); }

}  // namespace weft::inline v0::WEFT_LEVEL
