// Convolution as matrix products: a group's weight [out, c kh kw] times the columns [c kh kw, oh
// ow] that the kernel sees at each place. Chellapilla et al., High Performance Convolutional Neural
// Networks for Document Processing, 2006.
#include <algorithm>

#include <weft/core/cpu/conv.hpp>
#include <weft/core/cpu/gemm.hpp>
#include <weft/core/storage.hpp>

namespace weft::inline v0::detail {

namespace {

/// Calls visit(channel, image offset, column offset) for each place of the columns that lies inside
/// the image, and outside(column offset) for those in the padding.
template <class Visit, class Outside>
void each_place(const ConvShape& s, int64_t channels, const Visit& visit, const Outside& outside) {
  int64_t column = 0;
  for (int64_t c = 0; c < channels; ++c)
    for (int64_t i = 0; i < s.kh; ++i)
      for (int64_t j = 0; j < s.kw; ++j)
        for (int64_t y = 0; y < s.oh; ++y) {
          const int64_t row = y * s.stride[0] - s.padding[0] + i * s.dilation[0];
          for (int64_t x = 0; x < s.ow; ++x, ++column) {
            const int64_t place = x * s.stride[1] - s.padding[1] + j * s.dilation[1];
            if (row >= 0 && row < s.h && place >= 0 && place < s.w)
              visit((c * s.h + row) * s.w + place, column);
            else
              outside(column);
          }
        }
}

template <class T>
void gather_columns(const ConvShape& s, int64_t channels, const T* image, T* columns) {
  each_place(
      s, channels, [=](int64_t from, int64_t to) { columns[to] = image[from]; },
      [=](int64_t to) { columns[to] = T(0); });
}

template <class T>
void add_columns(const ConvShape& s, int64_t channels, const T* columns, T* image) {
  each_place(
      s, channels, [=](int64_t to, int64_t from) { image[to] += columns[from]; }, [](int64_t) {});
}

template <class T>
void run(ConvPass pass, const ConvPart& p) {
  const auto product = sizeof(T) == sizeof(float) ? gemm_tile_f32 : gemm_tile_f64;
  const ConvShape& s = p.shape;
  const int64_t channels = s.c / s.groups, outs = s.out / s.groups, places = s.oh * s.ow;
  const int64_t depth = channels * s.kh * s.kw;
  const Storage memory =
      Storage::allocate(static_cast<size_t>(depth * places) * sizeof(T), Device::cpu(), "conv2d");
  auto* columns = reinterpret_cast<T*>(memory->data);
  auto* x = static_cast<T*>(p.x);
  auto* y = static_cast<T*>(p.y);
  auto* weight = static_cast<T*>(p.weight);
  if (pass == ConvPass::backward_input) std::fill_n(x, s.n * s.c * s.h * s.w, T(0));
  for (int64_t n = 0; n < s.n; ++n)
    for (int64_t g = 0; g < s.groups; ++g) {
      T* image = x + (n * s.groups + g) * channels * s.h * s.w;
      T* result = y + (n * s.groups + g) * outs * places;
      T* kernel = weight + g * outs * depth;
      if (pass != ConvPass::backward_input) gather_columns<T>(s, channels, image, columns);
      switch (pass) {
        case ConvPass::forward:
          if (p.bias != nullptr)
            for (int64_t o = 0; o < outs; ++o)
              std::fill_n(result + o * places, places, static_cast<const T*>(p.bias)[g * outs + o]);
          product({.m = outs,
                   .n = places,
                   .k = depth,
                   .a = kernel,
                   .lda = depth,
                   .b = columns,
                   .ldb = places,
                   .c = result,
                   .ldc = places,
                   .accumulate = p.bias != nullptr});
          break;
        case ConvPass::backward_input:
          product({.m = depth,
                   .n = places,
                   .k = outs,
                   .a = kernel,
                   .lda = depth,
                   .a_transposed = true,
                   .b = result,
                   .ldb = places,
                   .c = columns,
                   .ldc = places});
          add_columns<T>(s, channels, columns, image);
          break;
        case ConvPass::backward_weight:
          product({.m = outs,
                   .n = depth,
                   .k = places,
                   .a = result,
                   .lda = places,
                   .b = columns,
                   .ldb = places,
                   .b_transposed = true,
                   .c = kernel,
                   .ldc = depth,
                   .accumulate = n > 0});
          break;
      }
    }
}

}  // namespace

void im2col_conv(ConvPass pass, const ConvPart& part) {
  if (part.dtype == DType::f64)
    run<double>(pass, part);
  else
    run<float>(pass, part);
}

}  // namespace weft::inline v0::detail
