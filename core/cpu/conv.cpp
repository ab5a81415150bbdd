// Kernels of convolution: operands, and the cut of the batch over threads.
#include <weft/core/cpu/conv.hpp>

#include <algorithm>
#include <cstring>

#include <weft/core/base/parallel.hpp>
#include <weft/core/conv_attrs.hpp>
#include <weft/core/cpu/gemm.hpp>
#include <weft/core/cpu/packing.hpp>
#include <weft/core/cpu/products.hpp>

namespace weft::inline v0::detail {

namespace {

/// The dtype that the work is done in.
DType working_type(DType dtype) {
#ifdef WEFT_HAS_ONEDNN
  if (dtype == DType::bf16 && onednn_has_bf16()) return DType::bf16;
#endif
  return dtype == DType::f64 ? DType::f64 : DType::f32;
}

void run_part(ConvPass pass, const ConvPart& part) {
#ifdef WEFT_HAS_ONEDNN
  if (part.dtype != DType::f64) return onednn_conv(pass, part);
#endif
  im2col_conv(pass, part);
}

ConvShape shape_of(const Conv2dAttrs& attrs, const Shape& x, const Shape& weight, const Shape& y) {
  ConvShape s;
  s.n = x[0], s.c = x[1], s.h = x[2], s.w = x[3];
  s.out = weight[0], s.kh = weight[2], s.kw = weight[3];
  s.oh = y[2], s.ow = y[3];
  s.groups = attrs.groups;
  std::memcpy(s.stride, attrs.stride, sizeof(s.stride));
  std::memcpy(s.padding, attrs.padding, sizeof(s.padding));
  std::memcpy(s.dilation, attrs.dilation, sizeof(s.dilation));
  return s;
}

double operations(const ConvShape& s) {
  return 2.0 * static_cast<double>(s.n * s.out * s.oh * s.ow) *
         static_cast<double>(s.c / s.groups * s.kh * s.kw);
}

/// Packed elements in the working type.
void* operand(Context& context, TensorRef t, DType work) {
  if (t == nullptr) return nullptr;
  if (t->dtype == work) return const_cast<std::byte*>(packed(context, t));
  return const_cast<float*>(widened(context, t));
}

/// Where the result is written in the working type.
void* target(Context& context, TensorRef out, DType work) {
  if (out->contiguous && out->dtype == work) return context.bytes(out);
  return context.workspace(static_cast<size_t>(out->numel * size_of(work)));
}

void finish(const Context& context, const void* from, TensorRef out, DType work) {
  if (from == context.bytes(out)) return;
  if (out->dtype == work)
    unpack(context, static_cast<const std::byte*>(from), out);
  else
    narrow(context, static_cast<const float*>(from), out);
}

void fill_zero(Context& context, TensorRef out) {
  const auto bytes = static_cast<size_t>(out->numel * out->item_size());
  std::byte* zeros = out->contiguous ? context.bytes(out) : context.workspace(bytes);
  std::memset(zeros, 0, bytes);
  if (!out->contiguous) unpack(context, zeros, out);
}

// Images that one task takes: enough to be worth handing over, few enough that their blocked forms
// stay in a cache of 2 MiB or so.
int64_t images_per_task(const ConvShape& s, DType work) {
  const int64_t bytes = (s.c * s.h * s.w + s.out * s.oh * s.ow) * size_of(work);
  const int64_t fitting = std::max<int64_t>(1, (int64_t{4} << 20) / std::max<int64_t>(bytes, 1));
  const int64_t shared = (s.n + num_threads() - 1) / num_threads();
  const double each = operations(s) / static_cast<double>(s.n);
  const auto worthwhile = static_cast<int64_t>(4e6 / std::max(each, 1.0)) + 1;
  return std::clamp(std::min(fitting, shared), std::min(worthwhile, s.n), s.n);
}

/// forward and backward_input: each image by itself.
void run_images(ConvPass pass, const ConvPart& whole) {
  const ConvShape& s = whole.shape;
  const int64_t step = images_per_task(s, whole.dtype), size = size_of(whole.dtype);
  v0::parallel_for((s.n + step - 1) / step, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      ConvPart part = whole;
      const int64_t image = task * step;
      part.shape.n = std::min(step, s.n - image);
      part.x = static_cast<std::byte*>(whole.x) + image * s.c * s.h * s.w * size;
      part.y = static_cast<std::byte*>(whole.y) + image * s.out * s.oh * s.ow * size;
      run_part(pass, part);
    }
  });
}

template <class T>
void add_up(T* sums, int64_t parts, int64_t count) {
  v0::parallel_for(count, 16384, [&](int64_t begin, int64_t end) {
    for (int64_t p = 1; p < parts; ++p)
      for (int64_t i = begin; i < end; ++i) sums[i] += sums[p * count + i];
  });
}

/// backward_weight: partial sums over parts of the batch, added up in their order. `sums` has room
/// for all of them and gets the total at its start.
void run_sums(const ConvPart& whole, DType sum_type, std::byte* sums, int64_t step) {
  const ConvShape& s = whole.shape;
  const int64_t size = size_of(whole.dtype), parts = (s.n + step - 1) / step;
  const int64_t count = s.out * (s.c / s.groups) * s.kh * s.kw;
  v0::parallel_for(parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      ConvPart part = whole;
      const int64_t image = p * step;
      part.shape.n = std::min(step, s.n - image);
      part.x = static_cast<std::byte*>(whole.x) + image * s.c * s.h * s.w * size;
      part.y = static_cast<std::byte*>(whole.y) + image * s.out * s.oh * s.ow * size;
      part.weight = sums + p * count * size_of(sum_type);
      run_part(ConvPass::backward_weight, part);
    }
  });
  if (sum_type == DType::f64)
    add_up(reinterpret_cast<double*>(sums), parts, count);
  else
    add_up(reinterpret_cast<float*>(sums), parts, count);
}

}  // namespace

void conv2d_kernel(Context& context, const Attrs& attrs, Inputs inputs, Outputs outputs) {
  const TensorRef x = inputs[0], weight = inputs[1], out = outputs[0];
  if (out->numel == 0) return;
  const DType work = working_type(x->dtype);
  ConvPart part;
  part.shape = shape_of(attrs.as<Conv2dAttrs>(), x->shape, weight->shape, out->shape);
  part.dtype = work;
  part.x = operand(context, x, work);
  part.weight = operand(context, weight, work);
  part.bias = operand(context, inputs[2], work);
  part.y = target(context, out, work);
  run_images(ConvPass::forward, part);
  finish(context, part.y, out, work);
}

void conv2d_backward_input_kernel(Context& context, const Attrs& attrs, Inputs inputs,
                                  Outputs outputs) {
  const TensorRef gradient = inputs[0], weight = inputs[1], out = outputs[0];
  if (out->numel == 0) return;
  if (gradient->numel == 0) return fill_zero(context, out);
  const DType work = working_type(out->dtype);
  ConvPart part;
  part.shape = shape_of(attrs.as<Conv2dAttrs>(), out->shape, weight->shape, gradient->shape);
  part.dtype = work;
  part.y = operand(context, gradient, work);
  part.weight = operand(context, weight, work);
  part.x = target(context, out, work);
  run_images(ConvPass::backward_input, part);
  finish(context, part.x, out, work);
}

void conv2d_backward_weight_kernel(Context& context, const Attrs& attrs, Inputs inputs,
                                   Outputs outputs) {
  const TensorRef gradient = inputs[0], x = inputs[1], out = outputs[0];
  if (out->numel == 0) return;
  if (gradient->numel == 0 || x->numel == 0) return fill_zero(context, out);
  const DType work = working_type(out->dtype);
  const DType sum_type = work == DType::f64 ? DType::f64 : DType::f32;
  ConvPart part;
  part.shape = shape_of(attrs.as<Conv2dAttrs>(), x->shape, out->shape, gradient->shape);
  part.dtype = work;
  part.y = operand(context, gradient, work);
  part.x = operand(context, x, work);
  const ConvShape& s = part.shape;
  // Few partial sums, as each is a whole weight. Under set_deterministic their number follows from
  // the shape alone.
  const int64_t threads = context.deterministic() ? 4 : in_parallel_loop() ? 1 : num_threads();
  const auto worthwhile = static_cast<int64_t>(operations(s) / 4e6) + 1;
  const int64_t parts = std::min({threads, worthwhile, s.n});
  const int64_t step = (s.n + parts - 1) / parts;
  const bool direct = parts == 1 && out->contiguous && out->dtype == sum_type;
  std::byte* sums =
      direct ? context.bytes(out)
             : context.workspace(static_cast<size_t>(parts * out->numel * size_of(sum_type)));
  run_sums(part, sum_type, sums, step);
  finish(context, sums, out, sum_type);
}

}  // namespace weft::inline v0::detail
