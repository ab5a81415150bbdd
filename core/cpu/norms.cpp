// layer_norm, rms_norm, group_norm and their gradients.
#include <weft/core/cpu/strided.hpp>
#include <weft/core/row_attrs.hpp>

namespace weft::inline v0::WEFT_LEVEL {

namespace {

// Loops over several rows at once: `for_vectors` calls f(i, lanes) with a whole vector's lanes, and
// at the end with the number that is left.
struct WholeVector {};
template <class T>
WEFT_ROW auto load_lanes(const T* p, WholeVector) {
  return load(p);
}
template <class T>
WEFT_ROW auto load_lanes(const T* p, int count) {
  return load_some(p, count);
}
template <class T, class V>
WEFT_ROW void store_lanes(T* p, V v, WholeVector) {
  store(p, v);
}
template <class T, class V>
WEFT_ROW void store_lanes(T* p, V v, int count) {
  store_some(p, v, count);
}
template <class S, class F>
WEFT_ROW void for_vectors(int64_t n, const F& f) {
  int64_t i = 0;
  for (; i + kWidth<S> <= n; i += kWidth<S>) f(i, WholeVector());
  if (i < n) f(i, static_cast<int>(n - i));
}

/// Mean and 1 / sqrt(variance + eps) of n packed elements; two passes, the second from the cache.
template <class T>
WEFT_ROW void statistics(const T* x, int64_t n, double eps, Compute<T>& mean, Compute<T>& rstd) {
  using S = Compute<T>;
  const S m = fold_row<Plus>(x, n, S(0), [](auto v) { return v; }) / static_cast<S>(n);
  const S squares = fold_row<Plus>(x, n, S(0), [m](auto v) { return (v - m) * (v - m); });
  mean = m;
  rstd = S(1) / sqrt_of(squares / static_cast<S>(n) + static_cast<S>(eps));
}

/// The weight, or null where the input is absent.
template <class T>
const T* optional(Context& context, TensorRef t) {
  return t == nullptr ? nullptr : packed<T>(context, t);
}

/// y = (x - mean) rstd weight + bias; rms_norm: mean 0, no bias.
template <class T>
WEFT_ROW void normalise_row(const T* x, const T* weight, const T* bias, T* y, int64_t n,
                            Compute<T> mean, Compute<T> rstd) {
  using S = Compute<T>;
  if (weight == nullptr && bias == nullptr)
    return map_row(x, y, n, [=](auto v) { return (v - mean) * rstd; });
  for_vectors<S>(n, [=](int64_t i, auto lanes) {
    Vector<S> v = (load_lanes(x + i, lanes) - mean) * rstd;
    if (weight != nullptr) v *= load_lanes(weight + i, lanes);
    if (bias != nullptr) v += load_lanes(bias + i, lanes);
    store_lanes(y + i, v, lanes);
  });
}

/// What the gradient of rows normalised over `width` elements reads and writes.
template <class T>
struct RowGradient {
  using S = Compute<T>;
  const T *grad, *x, *weight;
  const S *mean, *rstd;  // mean null: rms_norm
  T* dx;
  int64_t width;

  /// dx of one row; adds the row's share to dweight and dbias.
  WEFT_ROW void row(int64_t r, S* dweight, S* dbias) const {
    const T *g = grad + r * width, *from = x + r * width;
    const S m = mean == nullptr ? S(0) : mean[r], s = rstd[r];
    Vector<S> sum{}, dot{};
    for_vectors<S>(width, [&](int64_t i, auto lanes) {
      const Vector<S> gv = load_lanes(g + i, lanes);
      Vector<S> xhat = (load_lanes(from + i, lanes) - m) * s;
      const Vector<S> gw = weight == nullptr ? gv : gv * load_lanes(weight + i, lanes);
      sum += gw;
      dot += gw * xhat;
      if (dweight != nullptr)
        store_lanes(dweight + i, load_lanes(dweight + i, lanes) + gv * xhat, lanes);
      if (dbias != nullptr) store_lanes(dbias + i, load_lanes(dbias + i, lanes) + gv, lanes);
    });
    const S n = static_cast<S>(width);
    const S a = mean == nullptr ? S(0) : fold_lanes<Plus, S>(sum) / n;
    const S b = fold_lanes<Plus, S>(dot) / n;
    T* to = dx + r * width;
    for_vectors<S>(width, [&](int64_t i, auto lanes) {
      const Vector<S> gv = load_lanes(g + i, lanes);
      const Vector<S> xhat = (load_lanes(from + i, lanes) - m) * s;
      const Vector<S> gw = weight == nullptr ? gv : gv * load_lanes(weight + i, lanes);
      store_lanes(to + i, (gw - a - xhat * b) * s, lanes);
    });
  }
};

/// out[j] = sum over blocks of partial[block * pitch + j], in the order of the blocks.
template <class T, class S>
void sum_blocks(const S* partial, int64_t blocks, int64_t pitch, int64_t n, T* out) {
  parallel_for(n, rows_per_task(blocks), [=](int64_t begin, int64_t end) {
    for (int64_t j = begin; j < end; ++j) {
      S sum = 0;
      for (int64_t b = 0; b < blocks; ++b) sum += partial[b * pitch + j];
      narrow(out + j, sum);
    }
  });
}

/// All rows, in blocks of a number that depends on the shape alone (Note [Order of sums] in
/// reduce.cpp): a block adds up its share of dweight and dbias, the shares are added in order.
template <class T>
void rows_gradient(Context& context, const RowGradient<T>& gradient, int64_t rows, T* dweight,
                   T* dbias) {
  using S = Compute<T>;
  const int64_t width = gradient.width;
  const int64_t size = rows <= 16 * 64 ? 16 : (rows + 63) / 64;  // rows of a block
  const int64_t blocks = (rows + size - 1) / size;
  const bool any = dweight != nullptr || dbias != nullptr;
  S* partial = any ? reinterpret_cast<S*>(
                         context.workspace(static_cast<size_t>(2 * blocks * width) * sizeof(S)))
                   : nullptr;
  parallel_for(blocks, rows_per_task(size * width), [=](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      S* dw = dweight == nullptr ? nullptr : partial + 2 * b * width;
      S* db = dbias == nullptr ? nullptr : partial + (2 * b + 1) * width;
      for (int64_t i = 0; dw != nullptr && i < width; ++i) dw[i] = 0;
      for (int64_t i = 0; db != nullptr && i < width; ++i) db[i] = 0;
      const int64_t last = (b + 1) * size < rows ? (b + 1) * size : rows;
      for (int64_t r = b * size; r < last; ++r) gradient.row(r, dw, db);
    }
  });
  if (dweight != nullptr) sum_blocks(partial, blocks, 2 * width, width, dweight);
  if (dbias != nullptr) sum_blocks(partial + width, blocks, 2 * width, width, dbias);
}

/// Memory of an output, null where it is empty because nobody asked for it.
template <class T>
T* wanted(Context& context, TensorRef out, bool want) {
  return want ? context.data<T>(out) : nullptr;
}

/// Groups of channels: rows of `channels * inner` elements, weight and bias by channel.
template <class T>
struct GroupGradient {
  using S = Compute<T>;
  const T *grad, *x, *weight;
  const S *mean, *rstd;
  T* dx;
  S *dweight, *dbias;  // by sample and channel
  int64_t groups, channels, inner;

  void group(int64_t r) const {
    const int64_t first = r * channels;  // sample * (groups * channels) + channel
    const S m = mean[r], s = rstd[r];
    S sum = 0, dot = 0;
    for (int64_t k = 0; k < channels; ++k) {
      const T *g = grad + (first + k) * inner, *from = x + (first + k) * inner;
      Vector<S> a{}, b{};
      for_vectors<S>(inner, [&](int64_t i, auto lanes) {
        const Vector<S> gv = load_lanes(g + i, lanes);
        a += gv;
        b += gv * ((load_lanes(from + i, lanes) - m) * s);
      });
      const S ga = fold_lanes<Plus, S>(a), gb = fold_lanes<Plus, S>(b);
      dbias[first + k] = ga;
      dweight[first + k] = gb;
      const S w = weight_of(r, k);
      sum += w * ga;
      dot += w * gb;
    }
    const S n = static_cast<S>(channels * inner), ma = sum / n, mb = dot / n;
    for (int64_t k = 0; k < channels; ++k) {
      const int64_t at = (first + k) * inner;
      const S w = weight_of(r, k);
      map_row(grad + at, x + at, dx + at, inner,
              [=](auto gv, auto xv) { return (gv * w - ma - (xv - m) * s * mb) * s; });
    }
  }
  S weight_of(int64_t r, int64_t k) const {
    return weight == nullptr ? S(1) : widen(weight[r % groups * channels + k]);
  }
};

}  // namespace

// Inputs: x, weight, bias. Outputs: y, mean and rstd of the rows.
WEFT_KERNEL(layer_norm) {
  const auto norm = attrs.as<NormAttrs>();
  for_floating(inputs[0]->dtype, [&](auto zero) {
    using T = decltype(zero);
    using S = Compute<T>;
    const T* x = packed<T>(context, inputs[0]);
    const T *weight = optional<T>(context, inputs[1]), *bias = optional<T>(context, inputs[2]);
    T* y = context.data<T>(outputs[0]);
    S *mean = context.data<S>(outputs[1]), *rstd = context.data<S>(outputs[2]);
    parallel_for(outputs[1]->numel, rows_per_task(norm.width), [=](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const int64_t at = r * norm.width;
        statistics(x + at, norm.width, norm.eps, mean[r], rstd[r]);
        normalise_row(x + at, weight, bias, y + at, norm.width, mean[r], rstd[r]);
      }
    });
  });
}

// Inputs: gradient, x, weight, mean, rstd. Outputs: dx, dweight, dbias.
WEFT_KERNEL(layer_norm_backward) {
  const auto norm = attrs.as<NormAttrs>();
  for_floating(inputs[1]->dtype, [&](auto zero) {
    using T = decltype(zero);
    using S = Compute<T>;
    const RowGradient<T> gradient{packed<T>(context, inputs[0]),
                                  packed<T>(context, inputs[1]),
                                  optional<T>(context, inputs[2]),
                                  packed<S>(context, inputs[3]),
                                  packed<S>(context, inputs[4]),
                                  context.data<T>(outputs[0]),
                                  norm.width};
    rows_gradient(context, gradient, inputs[3]->numel,
                  wanted<T>(context, outputs[1], norm.has_weight),
                  wanted<T>(context, outputs[2], norm.has_bias));
  });
}

// Inputs: x, weight. Outputs: y, rstd.
WEFT_KERNEL(rms_norm) {
  const auto norm = attrs.as<NormAttrs>();
  for_floating(inputs[0]->dtype, [&](auto zero) {
    using T = decltype(zero);
    using S = Compute<T>;
    const T *x = packed<T>(context, inputs[0]), *weight = optional<T>(context, inputs[1]);
    T* y = context.data<T>(outputs[0]);
    S* rstd = context.data<S>(outputs[1]);
    parallel_for(outputs[1]->numel, rows_per_task(norm.width), [=](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const int64_t at = r * norm.width;
        const S squares = fold_row<Plus>(x + at, norm.width, S(0), [](auto v) { return v * v; });
        rstd[r] = S(1) / sqrt_of(squares / static_cast<S>(norm.width) + static_cast<S>(norm.eps));
        normalise_row<T>(x + at, weight, nullptr, y + at, norm.width, S(0), rstd[r]);
      }
    });
  });
}

// Inputs: gradient, x, weight, rstd. Outputs: dx, dweight.
WEFT_KERNEL(rms_norm_backward) {
  const auto norm = attrs.as<NormAttrs>();
  for_floating(inputs[1]->dtype, [&](auto zero) {
    using T = decltype(zero);
    using S = Compute<T>;
    const RowGradient<T> gradient{packed<T>(context, inputs[0]),
                                  packed<T>(context, inputs[1]),
                                  optional<T>(context, inputs[2]),
                                  nullptr,
                                  packed<S>(context, inputs[3]),
                                  context.data<T>(outputs[0]),
                                  norm.width};
    rows_gradient<T>(context, gradient, inputs[3]->numel,
                     wanted<T>(context, outputs[1], norm.has_weight), nullptr);
  });
}

// Inputs: x [n, c, …], weight, bias. Outputs: y, mean and rstd [n * groups].
WEFT_KERNEL(group_norm) {
  const auto norm = attrs.as<NormAttrs>();
  if (outputs[0]->numel == 0) return;
  const int64_t samples = inputs[0]->shape[0], channels = inputs[0]->shape[1] / norm.groups;
  const int64_t inner = inputs[0]->numel / (samples * inputs[0]->shape[1]);
  for_floating(inputs[0]->dtype, [&](auto zero) {
    using T = decltype(zero);
    using S = Compute<T>;
    const T* x = packed<T>(context, inputs[0]);
    const T *weight = optional<T>(context, inputs[1]), *bias = optional<T>(context, inputs[2]);
    T* y = context.data<T>(outputs[0]);
    S *mean = context.data<S>(outputs[1]), *rstd = context.data<S>(outputs[2]);
    const int64_t width = channels * inner;
    parallel_for(samples * norm.groups, rows_per_task(width), [=](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        statistics(x + r * width, width, norm.eps, mean[r], rstd[r]);
        for (int64_t k = 0; k < channels; ++k) {
          const int64_t c = r % norm.groups * channels + k, at = r * width + k * inner;
          const S scale = rstd[r] * (weight == nullptr ? S(1) : widen(weight[c]));
          const S shift = bias == nullptr ? S(0) : widen(bias[c]);
          const S centre = mean[r];
          map_row(x + at, y + at, inner, [=](auto v) { return (v - centre) * scale + shift; });
        }
      }
    });
  });
}

// Inputs: gradient, x, weight, mean, rstd. Outputs: dx, dweight, dbias.
WEFT_KERNEL(group_norm_backward) {
  const auto norm = attrs.as<NormAttrs>();
  const int64_t samples = inputs[1]->shape[0], all = inputs[1]->shape[1];
  for_floating(inputs[1]->dtype, [&](auto zero) {
    using T = decltype(zero);
    using S = Compute<T>;
    S* partial =
        reinterpret_cast<S*>(context.workspace(static_cast<size_t>(2 * samples * all) * sizeof(S)));
    const int64_t inner = samples * all > 0 ? inputs[1]->numel / (samples * all) : 0;
    const GroupGradient<T> gradient{packed<T>(context, inputs[0]),
                                    packed<T>(context, inputs[1]),
                                    optional<T>(context, inputs[2]),
                                    packed<S>(context, inputs[3]),
                                    packed<S>(context, inputs[4]),
                                    context.data<T>(outputs[0]),
                                    partial,
                                    partial + samples * all,
                                    norm.groups,
                                    all / norm.groups,
                                    inner};
    parallel_for(samples * norm.groups, rows_per_task(gradient.channels * inner),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t r = begin; r < end; ++r) gradient.group(r);
                 });
    if (norm.has_weight)
      sum_blocks(gradient.dweight, samples, all, all, context.data<T>(outputs[1]));
    if (norm.has_bias) sum_blocks(gradient.dbias, samples, all, all, context.data<T>(outputs[2]));
  });
}

}  // namespace weft::inline v0::WEFT_LEVEL
