// Along one dim: the largest and smallest element with its place, running sums and products, order.
#include <weft/core/cpu/strided.hpp>
#include <weft/core/row_attrs.hpp>

namespace weft::inline v0::WEFT_LEVEL {

namespace {

constexpr int64_t kTile = 256;  // columns of one task

template <class T>
WEFT_ROW auto wide(T value) {
  if constexpr (kIsFloating<T>)
    return widen(value);
  else
    return value;
}

/// Whether b replaces a: better, or the first NaN.
template <bool kMost, class X>
WEFT_ROW bool beats(X b, X a) {
  const bool better = kMost ? b > a : b < a;
  return better | ((b != b) & (a == a));
}

/// One packed row: the extremum by vectors first, then the first place where it stands.
template <bool kMost, class T>
int64_t place_in_row(const T* x, int64_t n) {
  using S = Compute<T>;
  if constexpr (kIsFloating<T>) {
    using Fold = std::conditional_t<kMost, Larger, Smaller>;
    constexpr S kInfinity = std::numeric_limits<S>::infinity();
    const S best = fold_row<Fold>(x, n, kMost ? -kInfinity : kInfinity, [](auto v) { return v; });
    for (int64_t i = 0; i < n; ++i) {
      const S v = widen(x[i]);
      if (v == best || v != v) return i;
    }
    return 0;
  } else {
    int64_t at = 0;
    for (int64_t i = 1; i < n; ++i)
      if (beats<kMost>(x[i], x[at])) at = i;
    return at;
  }
}

template <bool kMost>
WEFT_ROW void choose(Context& context, const Attrs& attrs, Inputs inputs, Outputs outputs) {
  const DimView view(inputs[0]->shape, attrs.as<DimAttrs>().dim);
  if (outputs[0]->numel == 0) return;
  for_any(inputs[0]->dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* x = packed<T>(context, inputs[0]);
    T* values = context.data<T>(outputs[0]);
    int64_t* places = context.data<int64_t>(outputs[1]);
    if (view.inner == 1) {
      parallel_for(view.outer, rows_per_task(view.size), [=](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
          places[r] = place_in_row<kMost>(x + r * view.size, view.size);
          values[r] = x[r * view.size + places[r]];
        }
      });
      return;
    }
    const int64_t tiles = (view.inner + kTile - 1) / kTile;
    parallel_for(view.outer * tiles, rows_per_task(view.size * kTile),
                 [=](int64_t begin, int64_t end) {
                   for (int64_t task = begin; task < end; ++task) {
                     const int64_t o = task / tiles, first = task % tiles * kTile;
                     const int64_t width = view.inner - first < kTile ? view.inner - first : kTile;
                     const T* from = x + o * view.size * view.inner + first;
                     T* value = values + o * view.inner + first;
                     int64_t* place = places + o * view.inner + first;
                     for (int64_t j = 0; j < width; ++j) {
                       value[j] = from[j];
                       place[j] = 0;
                     }
                     for (int64_t r = 1; r < view.size; ++r)
                       for (int64_t j = 0; j < width; ++j) {
                         const T candidate = from[r * view.inner + j];
                         if (beats<kMost>(wide(candidate), wide(value[j]))) {
                           value[j] = candidate;
                           place[j] = r;
                         }
                       }
                   }
                 });
  });
}

/// Running fold along a dim; 16-bit types run in float.
template <class Fold, class T, class S, class Out>
void cumulate(const T* x, Out* out, const DimView& view) {
  const int64_t tiles = (view.inner + kTile - 1) / kTile;
  const int64_t cost = view.size * (view.inner < kTile ? view.inner : kTile);
  parallel_for(view.outer * tiles, rows_per_task(cost), [=](int64_t begin, int64_t end) {
    S running[kTile];
    for (int64_t task = begin; task < end; ++task) {
      const int64_t o = task / tiles, first = task % tiles * kTile;
      const int64_t width = view.inner - first < kTile ? view.inner - first : kTile;
      const int64_t base = o * view.size * view.inner + first;
      for (int64_t r = 0; r < view.size; ++r)
        for (int64_t j = 0; j < width; ++j) {
          const int64_t at = base + r * view.inner + j;
          const S value = static_cast<S>(wide(x[at]));
          running[j] = r == 0 ? value : Fold::fold(running[j], value);
          if constexpr (kIsFloating<Out>)
            narrow(out + at, running[j]);
          else
            out[at] = running[j];
        }
    }
  });
}

template <class Fold>
WEFT_ROW void cumulate_any(Context& context, const Attrs& attrs, Inputs inputs, Outputs outputs) {
  const DimView view(inputs[0]->shape, attrs.as<DimAttrs>().dim);
  for_any(inputs[0]->dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* x = packed<T>(context, inputs[0]);
    if constexpr (kIsFloating<T>)
      cumulate<Fold, T, Compute<T>, T>(x, context.data<T>(outputs[0]), view);
    else
      cumulate<Fold, T, int64_t, int64_t>(x, context.data<int64_t>(outputs[0]), view);
  });
}

/// Whether a stands before b; NaN is larger than all.
template <class X>
WEFT_ROW bool before(X a, X b, bool descending) {
  const bool less = (a < b) | ((b != b) & (a == a)), greater = (a > b) | ((a != a) & (b == b));
  return descending ? greater : less;
}

/// Stable merge sort of `places` by the values they point to.
template <class T>
void sort_places(const T* x, int64_t stride, int64_t n, bool descending, int64_t* places,
                 int64_t* scratch) {
  for (int64_t i = 0; i < n; ++i) places[i] = i;
  int64_t *from = places, *to = scratch;
  for (int64_t run = 1; run < n; run *= 2) {
    for (int64_t start = 0; start < n; start += 2 * run) {
      const int64_t middle = start + run < n ? start + run : n;
      const int64_t end = start + 2 * run < n ? start + 2 * run : n;
      int64_t a = start, b = middle;
      for (int64_t k = start; k < end; ++k) {
        const bool second =
            b < end && (a >= middle ||
                        before(wide(x[from[b] * stride]), wide(x[from[a] * stride]), descending));
        to[k] = second ? from[b++] : from[a++];
      }
    }
    int64_t* last = from;
    from = to;
    to = last;
  }
  for (int64_t i = 0; from != places && i < n; ++i) places[i] = from[i];
}

}  // namespace

WEFT_KERNEL(max_dim) { choose<true>(context, attrs, inputs, outputs); }
WEFT_KERNEL(min_dim) { choose<false>(context, attrs, inputs, outputs); }
WEFT_KERNEL(cumsum) { cumulate_any<Plus>(context, attrs, inputs, outputs); }
WEFT_KERNEL(cumprod) { cumulate_any<Times>(context, attrs, inputs, outputs); }

WEFT_KERNEL(sort) {
  const auto along = attrs.as<DimAttrs>();
  const DimView view(inputs[0]->shape, along.dim);
  if (outputs[0]->numel == 0) return;
  const bool descending = along.extra != 0;
  const int64_t lines = view.outer * view.inner, n = view.size;
  int64_t* all = reinterpret_cast<int64_t*>(
      context.workspace(static_cast<size_t>(2 * lines * n) * sizeof(int64_t)));
  for_any(inputs[0]->dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* x = packed<T>(context, inputs[0]);
    T* values = context.data<T>(outputs[0]);
    int64_t* places = context.data<int64_t>(outputs[1]);
    parallel_for(lines, rows_per_task(16 * n), [=](int64_t begin, int64_t end) {
      for (int64_t line = begin; line < end; ++line) {
        const int64_t at = line / view.inner * n * view.inner + line % view.inner;
        int64_t* order = all + 2 * line * n;
        sort_places(x + at, view.inner, n, descending, order, order + n);
        for (int64_t i = 0; i < n; ++i) {
          values[at + i * view.inner] = x[at + order[i] * view.inner];
          places[at + i * view.inner] = order[i];
        }
      }
    });
  });
}

}  // namespace weft::inline v0::WEFT_LEVEL
