// Matrix products: operands brought into a form that BLAS takes, and the split over threads.
#include <weft/core/cpu/gemm.hpp>

#include <algorithm>

#include <weft/core/base/check.hpp>
#include <weft/core/base/parallel.hpp>
#include <weft/core/kernel/half.hpp>
#include <weft/core/storage.hpp>

namespace weft::inline v0::detail {

namespace {

// An operand of the call: [rows, columns] for each item of the batch.
struct Operand {
  const std::byte* data;
  int64_t rows, columns, row_stride, column_stride;
  Strides batch;
};

Operand operand(const GemmMatrix& m, int64_t rows, int64_t columns, const Strides& batch) {
  return {
      static_cast<const std::byte*>(m.data), rows, columns, m.row_stride, m.column_stride, batch};
}

/// Whether BLAS takes it, as it is or as the transposed of a stored matrix.
bool is_blas(const Operand& x, bool& transposed, int64_t& stride) {
  if (x.columns == 1 || x.column_stride == 1) {
    const int64_t step = x.rows == 1 ? x.columns : x.row_stride;
    if (step >= x.columns) {
      transposed = false;
      stride = step;
      return true;
    }
  }
  if (x.rows == 1 || x.row_stride == 1) {
    const int64_t step = x.columns == 1 ? x.rows : x.column_stride;
    if (step >= x.rows) {
      transposed = true;
      stride = step;
      return true;
    }
  }
  return false;
}

/// Offset of item `index` of the batch, in elements.
int64_t offset_of(int64_t index, const Shape& batch, const Strides& strides) {
  int64_t offset = 0;
  for (int d = batch.rank() - 1; d >= 0; --d) {
    offset += index % batch[d] * strides[d];
    index /= batch[d];
  }
  return offset;
}

struct Same {
  template <class T>
  T operator()(T value) const {
    return value;
  }
};
struct FromHalf {
  float operator()(uint16_t value) const { return kernel::float_from_half(value); }
};
struct FromBfloat {
  float operator()(uint16_t value) const { return kernel::float_from_bfloat(value); }
};

/// Copies an operand into fresh packed memory, converting; what broadcasts is copied once.
template <class From, class To, class Convert>
Storage pack_as(Operand& x, const Shape& batch, Convert convert) {
  Shape kept = batch;
  for (int d = 0; d < batch.rank(); ++d)
    if (x.batch[d] == 0) kept[d] = 1;
  const int64_t items = kept.numel(), size = x.rows * x.columns;
  Storage memory =
      Storage::allocate(static_cast<size_t>(items * size) * sizeof(To), Device::cpu(), "matmul");
  auto* out = reinterpret_cast<To*>(memory->data);
  const int64_t grain = std::max<int64_t>(1, 16384 / std::max<int64_t>(x.columns, 1));
  v0::parallel_for(items * x.rows, grain, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const From* from = reinterpret_cast<const From*>(x.data) +
                         offset_of(r / x.rows, kept, x.batch) + r % x.rows * x.row_stride;
      To* to = out + r * x.columns;
      for (int64_t j = 0; j < x.columns; ++j) to[j] = convert(from[j * x.column_stride]);
    }
  });
  const Strides packed = contiguous_strides(kept);
  for (int d = 0; d < batch.rank(); ++d)
    if (x.batch[d] != 0) x.batch[d] = packed[d] * size;
  x.data = memory->data;
  x.row_stride = x.columns;
  x.column_stride = 1;
  return memory;
}

Storage pack(Operand& x, const Shape& batch, DType dtype) {
  switch (size_of(dtype)) {
    case 2: return pack_as<uint16_t, uint16_t>(x, batch, Same());
    case 4: return pack_as<float, float>(x, batch, Same());
    default: return pack_as<double, double>(x, batch, Same());
  }
}

using TileFn = void (*)(const GemmTile&);

TileFn tile_function(DType dtype) {
  switch (dtype) {
    case DType::f64: return gemm_tile_f64;
#ifdef WEFT_HAS_ONEDNN
    case DType::bf16: return onednn_gemm_bf16;
#endif
    default: return gemm_tile_f32;
  }
}

/// Operations that take about 20 us on one thread: less is not worth handing over.
double worthwhile(DType dtype) {
  return dtype == DType::f64 ? 4e5 : dtype == DType::bf16 ? 1e7 : 2e6;
}

// How one product of the batch is cut.
struct Split {
  int64_t parts = 1;  ///< of each product
  int64_t chunk = 0;  ///< columns or rows of a part
  bool columns = false;
};

// Note [Splitting a product]
// bf16 is cut into rows, as the library brings the right side into another layout in each task; f32
// into columns where there are at least twice as many of them as rows. As many parts as threads
// below half a millisecond each, twice as many above it, so that a thread that lost its core holds
// up less. Under set_deterministic the cut follows from the shape alone.
Split split(const GemmCall& call, double operations, int64_t items) {
  const int threads = call.deterministic ? 8 : in_parallel_loop() ? 1 : num_threads();
  Split s;
  s.columns = call.dtype != DType::bf16 && call.n >= 2 * call.m;
  const int64_t length = s.columns ? call.n : call.m;
  s.chunk = length;
  if (threads == 1) return s;
  const double unit = worthwhile(call.dtype);
  const int64_t wanted = operations / threads < 25 * unit ? threads : 2 * threads;
  const int64_t parts = std::min(wanted, static_cast<int64_t>(operations / unit));
  const int64_t each = (parts + items - 1) / items;
  if (each <= 1) return s;
  const int64_t step = s.columns ? 48 : 16;  // what the library's inner loops work on at a time
  s.chunk = (length + each - 1) / each;
  s.chunk = (s.chunk + step - 1) / step * step;
  s.parts = (length + s.chunk - 1) / s.chunk;
  return s;
}

/// Products of f32, f64 or native bf16.
void run_tiles(const GemmCall& call) {
  const Shape& batch = call.batch;
  Operand a = operand(call.a, call.m, call.k, call.a_batch);
  Operand b = operand(call.b, call.k, call.n, call.b_batch);
  GemmTile tile;
  Storage a_memory, b_memory;
  if (!is_blas(a, tile.a_transposed, tile.lda)) {
    a_memory = pack(a, batch, call.dtype);
    is_blas(a, tile.a_transposed, tile.lda);
  }
  if (!is_blas(b, tile.b_transposed, tile.ldb)) {
    b_memory = pack(b, batch, call.dtype);
    is_blas(b, tile.b_transposed, tile.ldb);
  }
  tile.k = call.k;
  tile.ldc = call.c_row_stride;
  const int64_t items = batch.numel(), size = size_of(call.dtype);
  const double operations = 2.0 * static_cast<double>(call.m) * static_cast<double>(call.n) *
                            static_cast<double>(call.k) * static_cast<double>(items);
  const Split cut = split(call, operations, items);
  const TileFn run = tile_function(call.dtype);
  const int64_t tasks = items * cut.parts;
  const double per_task = operations / static_cast<double>(tasks);
  const auto grain = static_cast<int64_t>(worthwhile(call.dtype) / std::max(per_task, 1.0)) + 1;
  v0::parallel_for(tasks, grain, [&](int64_t begin, int64_t end) {
    GemmTile part = tile;
    for (int64_t task = begin; task < end; ++task) {
      const int64_t item = task / cut.parts, start = task % cut.parts * cut.chunk;
      const int64_t row = cut.columns ? 0 : start, column = cut.columns ? start : 0;
      part.m = cut.columns ? call.m : std::min(cut.chunk, call.m - start);
      part.n = cut.columns ? std::min(cut.chunk, call.n - start) : call.n;
      part.a = a.data + size * (offset_of(item, batch, a.batch) + row * a.row_stride);
      part.b = b.data + size * (offset_of(item, batch, b.batch) + column * b.column_stride);
      part.c = static_cast<std::byte*>(call.c) +
               size * (offset_of(item, batch, call.c_batch) + row * call.c_row_stride + column);
      part.bias =
          call.bias == nullptr ? nullptr : static_cast<const std::byte*>(call.bias) + size * column;
      run(part);
    }
  });
}

/// Whole numbers, wrapping around as PyTorch's do.
template <class T>
void run_integers(const GemmCall& call) {
  const int64_t rows = call.batch.numel() * call.m;
  const int64_t grain = std::max<int64_t>(1, 20000 / std::max<int64_t>(1, call.n * call.k));
  v0::parallel_for(rows, grain, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t item = r / call.m, i = r % call.m;
      const T* a = static_cast<const T*>(call.a.data) + offset_of(item, call.batch, call.a_batch) +
                   i * call.a.row_stride;
      const T* b = static_cast<const T*>(call.b.data) + offset_of(item, call.batch, call.b_batch);
      T* c = static_cast<T*>(call.c) + offset_of(item, call.batch, call.c_batch) +
             i * call.c_row_stride;
      const T* bias = static_cast<const T*>(call.bias);
      for (int64_t j = 0; j < call.n; ++j) {
        uint64_t sum = bias == nullptr ? 0 : static_cast<uint64_t>(bias[j]);
        for (int64_t p = 0; p < call.k; ++p)
          sum += static_cast<uint64_t>(a[p * call.a.column_stride]) *
                 static_cast<uint64_t>(b[p * call.b.row_stride + j * call.b.column_stride]);
        c[j] = static_cast<T>(sum);
      }
    }
  });
}

template <class Load, class Store>
void run_converted(const GemmCall& call, Load load, Store store) {
  Operand a = operand(call.a, call.m, call.k, call.a_batch);
  Operand b = operand(call.b, call.k, call.n, call.b_batch);
  Operand bias{static_cast<const std::byte*>(call.bias), 1, call.n, 0, 1, {}};
  const Storage a_memory = pack_as<uint16_t, float>(a, call.batch, load);
  const Storage b_memory = pack_as<uint16_t, float>(b, call.batch, load);
  const Storage bias_memory =
      call.bias == nullptr ? Storage() : pack_as<uint16_t, float>(bias, {}, load);
  const int64_t rows = call.batch.numel() * call.m;
  const Storage sums = Storage::allocate(static_cast<size_t>(rows * call.n) * sizeof(float),
                                         Device::cpu(), "matmul");
  GemmCall wide = call;
  wide.dtype = DType::f32;
  wide.a = {a.data, a.row_stride, 1};
  wide.b = {b.data, b.row_stride, 1};
  wide.a_batch = a.batch;
  wide.b_batch = b.batch;
  wide.bias = call.bias == nullptr ? nullptr : bias.data;
  wide.c = sums->data;
  wide.c_row_stride = call.n;
  wide.c_batch = contiguous_strides(call.batch);
  for (int64_t& stride : wide.c_batch) stride *= call.m * call.n;
  run_tiles(wide);
  const auto* from = reinterpret_cast<const float*>(sums->data);
  v0::parallel_for(rows, std::max<int64_t>(1, 16384 / call.n), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      uint16_t* to = static_cast<uint16_t*>(call.c) +
                     offset_of(r / call.m, call.batch, call.c_batch) +
                     r % call.m * call.c_row_stride;
      const float* row = from + r * call.n;
      for (int64_t j = 0; j < call.n; ++j) to[j] = store(row[j]);
    }
  });
}

/// Products over nothing: the bias, or zeros.
void run_empty(const GemmCall& call) {
  const auto size = static_cast<size_t>(size_of(call.dtype));
  for (int64_t r = 0; r < call.batch.numel() * call.m; ++r) {
    std::byte* row = static_cast<std::byte*>(call.c) +
                     static_cast<int64_t>(size) * (offset_of(r / call.m, call.batch, call.c_batch) +
                                                   r % call.m * call.c_row_stride);
    if (call.bias == nullptr)
      __builtin_memset(row, 0, size * static_cast<size_t>(call.n));
    else
      __builtin_memcpy(row, call.bias, size * static_cast<size_t>(call.n));
  }
}

/// Batch dims of size 1 go; inner ones that walk on where the rows end become rows, so that
/// [b, t, k] x [k, n] is one product.
GemmCall folded(const GemmCall& call) {
  GemmCall f = call;
  for (int d = f.batch.rank() - 1; d >= 0; --d) {
    const bool last = d == f.batch.rank() - 1;
    const bool walks_on = last && f.b_batch[d] == 0 && f.c_batch[d] == f.m * f.c_row_stride &&
                          f.a_batch[d] == f.m * f.a.row_stride;
    if (f.batch[d] != 1 && !walks_on) continue;
    if (f.batch[d] != 1) f.m *= f.batch[d];
    f.batch.erase(d);
    f.a_batch.erase(d);
    f.b_batch.erase(d);
    f.c_batch.erase(d);
  }
  return f;
}

/// Tiles without elements, or sums over nothing, which the libraries refuse; true where it was one.
template <class T>
bool ran_empty_tile(const GemmTile& t) {
  if (t.m != 0 && t.n != 0 && t.k != 0) return false;
  const auto* const bias = static_cast<const T*>(t.bias);
  for (int64_t i = 0; i < t.m && !t.accumulate; ++i)
    for (int64_t j = 0; j < t.n; ++j)
      static_cast<T*>(t.c)[i * t.ldc + j] = bias == nullptr ? T{0} : bias[j];
  return true;
}

}  // namespace

void gemm_tile_f32(const GemmTile& tile) {
  if (ran_empty_tile<float>(tile)) return;
#ifdef WEFT_HAS_ONEDNN
  onednn_gemm_f32(tile);
#else
  eigen_gemm_f32(tile);
#endif
}

void gemm_tile_f64(const GemmTile& tile) {
  if (!ran_empty_tile<double>(tile)) eigen_gemm_f64(tile);
}

void gemm(const GemmCall& original) {
  const GemmCall call = original.batch.empty() ? original : folded(original);
  if (call.m == 0 || call.n == 0 || call.batch.numel() == 0) return;
  if (call.k == 0) return run_empty(call);
  switch (call.dtype) {
    case DType::u8: return run_integers<uint8_t>(call);
    case DType::i8: return run_integers<int8_t>(call);
    case DType::i16: return run_integers<int16_t>(call);
    case DType::i32: return run_integers<int32_t>(call);
    case DType::i64: return run_integers<int64_t>(call);
    case DType::f16: return run_converted(call, FromHalf(), kernel::half_from_float);
    case DType::bf16:
#ifdef WEFT_HAS_ONEDNN
      if (onednn_has_bf16()) return run_tiles(call);
#endif
      return run_converted(call, FromBfloat(), kernel::bfloat_from_float);
    case DType::f32:
    case DType::f64: return run_tiles(call);
    case DType::boolean: break;
  }
  fail<ArgumentError>("matmul: there is no product of bool matrices; convert them with .to(dtype)");
}

}  // namespace weft::inline v0::detail
