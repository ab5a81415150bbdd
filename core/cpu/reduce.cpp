// Sums, extrema, norms and truth values over any dims.
#include <weft/core/cpu/strided.hpp>
#include <weft/core/row_attrs.hpp>

namespace weft::inline v0::WEFT_LEVEL {

namespace {

// Note [Order of sums]
// A reduction is cut into blocks of a fixed number of elements, whatever the number of threads;
// each block is folded by its own vectors, and the results of the blocks are folded in order. So
// results are the same for any number of threads, and the error of a long sum grows with the number
// of blocks, not of elements.
constexpr int64_t kRowBlock = 16384;    // elements of one row
constexpr int64_t kColumnBlock = 256;   // rows under one column
constexpr int64_t kColumnTile = 1024;   // columns of one task
constexpr int64_t kGatherBlock = 2048;  // elements copied together where the input is strided

/// What is kept and what goes. Both lists in C order of the input.
struct Plan {
  DimWalk kept, reduced;
};

Plan make_plan(TensorRef x, const ReduceAttrs& attrs) {
  Plan plan;
  const int rank = x->rank();
  int order[kMaxRank];
  int count = 0;
  for (int i = 0; i < rank; ++i) {
    if (!attrs.reduces(i)) {
      plan.kept.add(x->shape[i], x->strides[i]);
      continue;
    }
    // The order of what is summed is free: the largest strides outside.
    int at = count++;
    for (; at > 0 && x->strides[order[at - 1]] < x->strides[i]; --at) order[at] = order[at - 1];
    order[at] = i;
  }
  for (int i = 0; i < count; ++i) plan.reduced.add(x->shape[order[i]], x->strides[order[i]]);
  return plan;
}

// What a reduction does: map each element, fold, finish. `Wide` is what it adds up in.

template <class S>
struct Sum : Plus {
  S neutral() const { return S(0); }
  template <class X>
  WEFT_ROW X map(X x) const {
    return x;
  }
  S finish(S sum, int64_t) const { return sum; }
};
template <class S>
struct Mean : Sum<S> {
  S finish(S sum, int64_t count) const { return sum / static_cast<S>(count); }
};
template <class S>
struct Product : Times {
  S neutral() const { return S(1); }
  template <class X>
  WEFT_ROW X map(X x) const {
    return x;
  }
  S finish(S product, int64_t) const { return product; }
};
template <class S>
struct Most : Larger {
  S neutral() const {
    return kIsFloating<S> ? -std::numeric_limits<S>::infinity() : std::numeric_limits<S>::lowest();
  }
  template <class X>
  WEFT_ROW X map(X x) const {
    return x;
  }
  S finish(S value, int64_t) const { return value; }
};
template <class S>
struct Least : Smaller {
  S neutral() const {
    return kIsFloating<S> ? std::numeric_limits<S>::infinity() : std::numeric_limits<S>::max();
  }
  template <class X>
  WEFT_ROW X map(X x) const {
    return x;
  }
  S finish(S value, int64_t) const { return value; }
};
template <class X>
WEFT_ROW X absolute(X x) {
  const X zero{};
  return x < zero ? -x : x;
}
template <class S>
struct SumAbs : Sum<S> {
  template <class X>
  WEFT_ROW X map(X x) const {
    return absolute(x);
  }
};
template <class S>
struct SumSquares : Sum<S> {
  template <class X>
  WEFT_ROW X map(X x) const {
    return x * x;
  }
  S finish(S sum, int64_t) const { return sqrt_of(sum); }
};
template <class S>
struct MostAbs : Larger {
  S neutral() const { return S(0); }
  template <class X>
  WEFT_ROW X map(X x) const {
    return absolute(x);
  }
  S finish(S value, int64_t) const { return value; }
};
template <class S>
struct LeastAbs : Smaller {
  S neutral() const { return std::numeric_limits<S>::infinity(); }
  template <class X>
  WEFT_ROW X map(X x) const {
    return absolute(x);
  }
  S finish(S value, int64_t) const { return value; }
};
template <class S>
struct CountNonzero : Sum<S> {
  template <class X>
  WEFT_ROW X map(X x) const {
    const X zero{}, one = zero + S(1);
    return x != zero ? one : zero;
  }
};
template <class S>
struct SumPowers : Sum<S> {
  S p;
  explicit SumPowers(double exponent) : p(static_cast<S>(exponent)) {}
  static float power(float x, float y) { return __builtin_powf(x, y); }
  static double power(double x, double y) { return __builtin_pow(x, y); }
  template <class X>
  WEFT_ROW X map(X x) const {
    X y = absolute(x);
    for (int i = 0; i < kWidth<S>; ++i) y[i] = power(y[i], p);
    return y;
  }
  S finish(S sum, int64_t) const { return power(sum, S(1) / p); }
};

/// One block of a row into one number.
template <class Op, class T, class S>
S fold_block(const Op& op, const T* x, int64_t n) {
  if constexpr (kIsFloating<T>) {
    return fold_row<Op>(x, n, op.neutral(), [&op](auto v) { return op.map(v); });
  } else {
    S value = op.neutral();
    for (int64_t i = 0; i < n; ++i) value = Op::fold(value, op.map(static_cast<S>(x[i])));
    return value;
  }
}

/// Elements begin … end of what one output reduces.
template <class Op, class T, class S>
S fold_range(const Op& op, const T* x, const DimWalk& reduced, int64_t begin, int64_t end) {
  if (reduced.rank == 0 || (reduced.rank == 1 && reduced.strides[0] == 1))
    return fold_block<Op, T, S>(op, x + begin, end - begin);
  T buffer[kGatherBlock];
  S value = op.neutral();
  for (int64_t i = begin; i < end; i += kGatherBlock) {
    const int64_t stop = i + kGatherBlock < end ? i + kGatherBlock : end;
    gather_range(x, reduced, i, stop, buffer);
    value = Op::fold(value, fold_block<Op, T, S>(op, buffer, stop - i));
  }
  return value;
}

template <class Out, class S>
WEFT_ROW void write(Out* out, S value) {
  if constexpr (kIsFloating<Out>)
    narrow(out, value);
  else
    *out = static_cast<Out>(value);
}

/// Folds `blocks` partial results per output, which lie `stride` apart, into the outputs.
template <class Op, class Out, class S>
void finish_blocks(const Op& op, const S* partial, int64_t blocks, const Plan& plan, int64_t inner,
                   Out* out) {
  parallel_for(plan.kept.count, rows_per_task(blocks), [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; ++o) {
      const S* from = partial + (o / inner) * blocks * inner + o % inner;
      S value = from[0];
      for (int64_t b = 1; b < blocks; ++b) value = Op::fold(value, from[b * inner]);
      write(out + o, op.finish(value, plan.reduced.count));
    }
  });
}

template <class Op, class T, class S, class Out>
void reduce_rows(Context& context, const Op& op, const T* x, const Plan& plan, Out* out) {
  const int64_t n = plan.reduced.count, blocks = n > 0 ? (n + kRowBlock - 1) / kRowBlock : 1;
  S* partial = blocks == 1 ? nullptr
                           : reinterpret_cast<S*>(context.workspace(
                                 static_cast<size_t>(plan.kept.count * blocks) * sizeof(S)));
  parallel_for(plan.kept.count * blocks, rows_per_task(n < kRowBlock ? n : kRowBlock),
               [&](int64_t begin, int64_t end) {
                 for (int64_t task = begin; task < end; ++task) {
                   const int64_t o = task / blocks, first = (task % blocks) * kRowBlock;
                   const int64_t last = first + kRowBlock < n ? first + kRowBlock : n;
                   const S value =
                       fold_range<Op, T, S>(op, x + plan.kept.offset(o), plan.reduced, first, last);
                   if (blocks == 1)
                     write(out + o, op.finish(value, n));
                   else
                     partial[task] = value;
                 }
               });
  if (blocks > 1) finish_blocks(op, partial, blocks, plan, 1, out);
}

/// acc[j] = fold(acc[j], map(rows[0][j]), …): up to four rows in one pass over acc.
template <class Op, class T, class S, int kRows>
WEFT_ROW void fold_columns(const Op& op, const T* const* rows, int64_t n, S* acc) {
  if constexpr (kIsFloating<T>) {
    const auto fold_at = [&](auto v, auto at) {
      Vector<S> r = op.map(at(rows[0]));
      if constexpr (kRows == 4)
        r = Op::fold(Op::fold(r, op.map(at(rows[1]))),
                     Op::fold(op.map(at(rows[2])), op.map(at(rows[3]))));
      return Op::fold(v, r);
    };
    int64_t j = 0;
    for (; j + kWidth<S> <= n; j += kWidth<S>)
      store(acc + j, fold_at(load(acc + j), [j](const T* row) { return load(row + j); }));
    const int rest = static_cast<int>(n - j);
    if (rest > 0)
      store_some(acc + j,
                 fold_at(load_some(acc + j, rest),
                         [j, rest](const T* row) { return load_some(row + j, rest); }),
                 rest);
  } else {
    for (int r = 0; r < kRows; ++r)
      for (int64_t j = 0; j < n; ++j) acc[j] = Op::fold(acc[j], op.map(static_cast<S>(rows[r][j])));
  }
}

/// The columns [first, first + n) under `x`, rows begin … end of what is reduced.
template <class Op, class T, class S>
void fold_tile(const Op& op, const T* x, const DimWalk& reduced, int64_t begin, int64_t end,
               int64_t n, S* acc) {
  for (int64_t j = 0; j < n; ++j) acc[j] = op.neutral();
  int64_t r = begin;
  const T* rows[4];
  for (; r + 4 <= end; r += 4) {
    for (int k = 0; k < 4; ++k) rows[k] = x + reduced.offset(r + k);
    fold_columns<Op, T, S, 4>(op, rows, n, acc);
  }
  for (; r < end; ++r) {
    rows[0] = x + reduced.offset(r);
    fold_columns<Op, T, S, 1>(op, rows, n, acc);
  }
}

/// The innermost kept dim is packed: whole rows are folded into a row of accumulators. This is the
/// gradient of a bias.
template <class Op, class T, class S, class Out>
void reduce_columns(Context& context, const Op& op, const T* x, const Plan& plan, Out* out) {
  const int64_t n = plan.reduced.count, columns = plan.kept.inner_size();
  const int64_t outer = plan.kept.count / columns;
  const int64_t blocks = (n + kColumnBlock - 1) / kColumnBlock;
  const int64_t tiles = (columns + kColumnTile - 1) / kColumnTile;
  S* partial = blocks == 1 ? nullptr
                           : reinterpret_cast<S*>(context.workspace(
                                 static_cast<size_t>(plan.kept.count * blocks) * sizeof(S)));
  const int64_t cost =
      (n < kColumnBlock ? n : kColumnBlock) * (columns < kColumnTile ? columns : kColumnTile);
  parallel_for(outer * blocks * tiles, rows_per_task(cost), [&](int64_t begin, int64_t end) {
    S acc[kColumnTile];
    for (int64_t task = begin; task < end; ++task) {
      const int64_t tile = task % tiles, row = task / tiles;  // row = outer index * blocks + block
      const int64_t o = row / blocks, first = (row % blocks) * kColumnBlock;
      const int64_t last = first + kColumnBlock < n ? first + kColumnBlock : n;
      const int64_t column = tile * kColumnTile;
      const int64_t width = columns - column < kColumnTile ? columns - column : kColumnTile;
      const T* from = x + plan.kept.offset(o * columns) + column;
      fold_tile<Op, T, S>(op, from, plan.reduced, first, last, width, acc);
      if (blocks == 1)
        for (int64_t j = 0; j < width; ++j)
          write(out + o * columns + column + j, op.finish(acc[j], n));
      else
        for (int64_t j = 0; j < width; ++j) partial[row * columns + column + j] = acc[j];
    }
  });
  if (blocks > 1) finish_blocks(op, partial, blocks, plan, columns, out);
}

template <class Op, class T, class S, class Out>
void reduce(Context& context, const Op& op, const Attrs& attrs, TensorRef in, TensorRef result) {
  const Plan plan = make_plan(in, attrs.as<ReduceAttrs>());
  if (plan.kept.count == 0) return;
  const T* x = context.data<T>(in);
  Out* out = context.data<Out>(result);
  const bool rows_packed = plan.reduced.inner_stride() == 1 && plan.reduced.inner_size() > 1;
  if (plan.kept.rank > 0 && plan.kept.inner_stride() == 1 && plan.reduced.count > 0 && !rows_packed)
    reduce_columns<Op, T, S, Out>(context, op, x, plan, out);
  else
    reduce_rows<Op, T, S, Out>(context, op, x, plan, out);
}

/// Floating inputs alone, result of the same dtype.
template <template <class> class Op, class... Args>
WEFT_ROW void reduce_floating(Context& context, const Attrs& attrs, Inputs inputs, Outputs outputs,
                              Args... args) {
  for_floating(inputs[0]->dtype, [&](auto zero) {
    using T = decltype(zero);
    using S = Compute<T>;
    reduce<Op<S>, T, S, T>(context, Op<S>(args...), attrs, inputs[0], outputs[0]);
  });
}

/// Sums and products: whole numbers and truth values add up in i64.
template <template <class> class Op>
WEFT_ROW void reduce_adding(Context& context, const Attrs& attrs, Inputs inputs, Outputs outputs) {
  for_any(inputs[0]->dtype, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (kIsFloating<T>)
      reduce<Op<Compute<T>>, T, Compute<T>, T>(context, Op<Compute<T>>(), attrs, inputs[0],
                                               outputs[0]);
    else
      reduce<Op<int64_t>, T, int64_t, int64_t>(context, Op<int64_t>(), attrs, inputs[0],
                                               outputs[0]);
  });
}

/// Extrema: the dtype stays.
template <template <class> class Op>
WEFT_ROW void reduce_choosing(Context& context, const Attrs& attrs, Inputs inputs,
                              Outputs outputs) {
  for_any(inputs[0]->dtype, [&](auto zero) {
    using T = decltype(zero);
    using S = Compute<T>;
    reduce<Op<S>, T, S, T>(context, Op<S>(), attrs, inputs[0], outputs[0]);
  });
}

struct All {
  static uint8_t fold(uint8_t a, uint8_t b) { return a & b; }
  uint8_t neutral() const { return 1; }
  uint8_t finish(uint8_t value, int64_t) const { return value; }
};
struct Any {
  static uint8_t fold(uint8_t a, uint8_t b) { return a | b; }
  uint8_t neutral() const { return 0; }
  uint8_t finish(uint8_t value, int64_t) const { return value; }
};

/// Truth of every element first (1 byte each), so that the folds exist for bytes alone.
template <class Op>
struct Truth : Op {
  template <class X>
  WEFT_ROW X map(X x) const {
    return x;
  }
};
template <class Op>
WEFT_ROW void reduce_truth(Context& context, const Attrs& attrs, Inputs inputs, Outputs outputs) {
  TensorMeta truth = *inputs[0];
  if (truth.dtype != DType::boolean && truth.numel > 0) {
    auto* bytes = reinterpret_cast<uint8_t*>(context.workspace(static_cast<size_t>(truth.numel)));
    for_any(truth.dtype, [&](auto zero) {
      using T = decltype(zero);
      const T* x = packed<T>(context, inputs[0]);
      parallel_for(truth.numel, 1 << 16, [=](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          if constexpr (kIsFloating<T>)
            bytes[i] = widen(x[i]) != 0;
          else
            bytes[i] = x[i] != 0;
        }
      });
    });
    int64_t stride = 1;
    for (int i = truth.rank() - 1; i >= 0; --i) {
      truth.strides[i] = stride;
      stride *= truth.shape[i];
    }
    const Plan plan = make_plan(&truth, attrs.as<ReduceAttrs>());
    reduce_rows<Truth<Op>, uint8_t, uint8_t, uint8_t>(context, Truth<Op>(), bytes, plan,
                                                      context.data<uint8_t>(outputs[0]));
    return;
  }
  reduce<Truth<Op>, uint8_t, uint8_t, uint8_t>(context, Truth<Op>(), attrs, inputs[0], outputs[0]);
}

}  // namespace

WEFT_KERNEL(sum) { reduce_adding<Sum>(context, attrs, inputs, outputs); }
WEFT_KERNEL(mean) { reduce_floating<Mean>(context, attrs, inputs, outputs); }
WEFT_KERNEL(prod) { reduce_adding<Product>(context, attrs, inputs, outputs); }
WEFT_KERNEL(amax) { reduce_choosing<Most>(context, attrs, inputs, outputs); }
WEFT_KERNEL(amin) { reduce_choosing<Least>(context, attrs, inputs, outputs); }
WEFT_KERNEL(all) { reduce_truth<All>(context, attrs, inputs, outputs); }
WEFT_KERNEL(any) { reduce_truth<Any>(context, attrs, inputs, outputs); }

WEFT_KERNEL(norm) {
  const double p = attrs.as<ReduceAttrs>().value;
  if (p == 2)
    reduce_floating<SumSquares>(context, attrs, inputs, outputs);
  else if (p == 1)
    reduce_floating<SumAbs>(context, attrs, inputs, outputs);
  else if (p == 0)
    reduce_floating<CountNonzero>(context, attrs, inputs, outputs);
  else if (p == std::numeric_limits<double>::infinity())
    reduce_floating<MostAbs>(context, attrs, inputs, outputs);
  else if (p == -std::numeric_limits<double>::infinity())
    reduce_floating<LeastAbs>(context, attrs, inputs, outputs);
  else
    reduce_floating<SumPowers>(context, attrs, inputs, outputs, p);
}

}  // namespace weft::inline v0::WEFT_LEVEL
