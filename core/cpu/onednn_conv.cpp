// Convolution through oneDNN, each call on the calling thread.
#include <weft/core/cpu/conv.hpp>

#include <weft/core/cpu/onednn.hpp>

namespace weft::inline v0::detail {

namespace {

using onednn::Thread;
using Memory = dnnl::memory;
using Desc = dnnl::memory::desc;

struct ConvKey {
  ConvShape shape;
  int64_t pass, dtype, has_bias;
  bool operator==(const ConvKey&) const = default;
};

// Note [Convolution layouts]
// oneDNN's fast convolutions want channels in blocks of 8 or 16. An operand whose layout it chose
// differently is brought there and back by reorders in scratch memory of the thread, small enough
// to stay in its cache as the caller cuts the batch (conv.cpp).
struct Operand {
  int argument = 0;
  Memory plain, blocked;
  dnnl::reorder reorder;  ///< empty where the layouts agree
  size_t offset = 0;      ///< of the blocked form in the scratch memory
};

struct ConvEntry {
  dnnl::primitive primitive;
  Operand first, second, result;
  Memory bias, scratch;
  size_t scratch_offset = 0, bytes = 0;
  std::unordered_map<int, Memory> arguments;
};

Memory::data_type type_of(DType dtype) {
  return dtype == DType::bf16 ? Memory::data_type::bf16 : Memory::data_type::f32;
}

// The three operands as weft has them, and as oneDNN may choose them.
struct Descriptions {
  Desc x, weight, bias, y, any_x, any_weight, any_y;
  Desc hint_weight;  ///< as forward reads it: in the type of the input
};

Descriptions describe(const ConvKey& key) {
  const ConvShape& s = key.shape;
  const auto type = type_of(static_cast<DType>(key.dtype));
  const bool weight_pass = key.pass == static_cast<int64_t>(ConvPass::backward_weight);
  const auto weight_type = weight_pass ? Memory::data_type::f32 : type;
  using Tag = Memory::format_tag;
  const Memory::dims x{s.n, s.c, s.h, s.w}, y{s.n, s.out, s.oh, s.ow};
  const Memory::dims weight =
      s.groups == 1 ? Memory::dims{s.out, s.c, s.kh, s.kw}
                    : Memory::dims{s.groups, s.out / s.groups, s.c / s.groups, s.kh, s.kw};
  const Tag plain = s.groups == 1 ? Tag::oihw : Tag::goihw;
  Descriptions d;
  d.x = Desc(x, type, Tag::nchw);
  d.y = Desc(y, type, Tag::nchw);
  d.weight = Desc(weight, weight_type, plain);
  d.any_x = Desc(x, type, Tag::any);
  d.any_y = Desc(y, type, Tag::any);
  d.any_weight = Desc(weight, weight_type, Tag::any);
  d.hint_weight = Desc(weight, type, Tag::any);
  if (key.has_bias != 0) d.bias = Desc({s.out}, type, Tag::x);
  return d;
}

// The calls of oneDNN 2 and 3 differ in where a description is made.
#if DNNL_VERSION_MAJOR >= 3
template <class Primitive, class... Args>
typename Primitive::primitive_desc describe_forward(const dnnl::engine& engine,
                                                    const dnnl::primitive_attr& attributes,
                                                    const Args&... args) {
  return {engine, args..., attributes};
}
template <class Primitive, class Hint, class... Args>
typename Primitive::primitive_desc describe_backward(const dnnl::engine& engine,
                                                     const dnnl::primitive_attr& attributes,
                                                     const Hint& hint, const Args&... args) {
  return {engine, args..., hint, attributes};
}
#else
template <class Primitive, class... Args>
typename Primitive::primitive_desc describe_forward(const dnnl::engine& engine,
                                                    const dnnl::primitive_attr& attributes,
                                                    const Args&... args) {
  return {typename Primitive::desc(args...), attributes, engine};
}
template <class Primitive, class Hint, class... Args>
typename Primitive::primitive_desc describe_backward(const dnnl::engine& engine,
                                                     const dnnl::primitive_attr& attributes,
                                                     const Hint& hint, const Args&... args) {
  return {typename Primitive::desc(args...), attributes, engine, hint};
}
#endif

void lay_out(Operand& operand, int argument, const Desc& plain, const Desc& blocked, bool into,
             Thread& thread, ConvEntry& entry) {
  operand.argument = argument;
  operand.plain = Memory(plain, thread.engine, nullptr);
  operand.blocked = operand.plain;
  if (plain != blocked) {
    operand.blocked = Memory(blocked, thread.engine, nullptr);
    operand.reorder = into ? dnnl::reorder(operand.plain, operand.blocked)
                           : dnnl::reorder(operand.blocked, operand.plain);
    operand.offset = entry.bytes;
    entry.bytes += (blocked.get_size() + 63) / 64 * 64;
  }
  entry.arguments.emplace(argument, operand.blocked);
}

template <class Description>
void finish(ConvEntry& entry, const Description& description, Thread& thread) {
  entry.scratch = Memory(description.scratchpad_desc(), thread.engine, nullptr);
  entry.scratch_offset = entry.bytes;
  entry.bytes += description.scratchpad_desc().get_size();
  entry.arguments.emplace(DNNL_ARG_SCRATCHPAD, entry.scratch);
}

std::unique_ptr<ConvEntry> make_conv(const ConvKey& key, Thread& thread) {
  const ConvShape& s = key.shape;
  const Descriptions d = describe(key);
  const Memory::dims strides{s.stride[0], s.stride[1]}, padding{s.padding[0], s.padding[1]};
  const Memory::dims dilates{s.dilation[0] - 1, s.dilation[1] - 1};  // oneDNN counts the gaps
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  const auto training = dnnl::prop_kind::forward_training;
  const auto direct = dnnl::algorithm::convolution_direct;
  const auto forward = [&](const Desc& weight) {
    if (key.has_bias != 0)
      return describe_forward<dnnl::convolution_forward>(thread.engine, attributes, training,
                                                         direct, d.any_x, weight, d.bias, d.any_y,
                                                         strides, dilates, padding, padding);
    return describe_forward<dnnl::convolution_forward>(thread.engine, attributes, training, direct,
                                                       d.any_x, weight, d.any_y, strides, dilates,
                                                       padding, padding);
  };
  auto entry = std::make_unique<ConvEntry>();
  switch (static_cast<ConvPass>(key.pass)) {
    case ConvPass::forward: {
      const auto pd = forward(d.any_weight);
      entry->primitive = dnnl::convolution_forward(pd);
      lay_out(entry->first, DNNL_ARG_SRC, d.x, pd.src_desc(), true, thread, *entry);
      lay_out(entry->second, DNNL_ARG_WEIGHTS, d.weight, pd.weights_desc(), true, thread, *entry);
      lay_out(entry->result, DNNL_ARG_DST, d.y, pd.dst_desc(), false, thread, *entry);
      if (key.has_bias != 0) {
        entry->bias = Memory(d.bias, thread.engine, nullptr);
        entry->arguments.emplace(DNNL_ARG_BIAS, entry->bias);
      }
      finish(*entry, pd, thread);
      break;
    }
    case ConvPass::backward_input: {
      const auto pd = describe_backward<dnnl::convolution_backward_data>(
          thread.engine, attributes, forward(d.any_weight), direct, d.any_x, d.any_weight, d.any_y,
          strides, dilates, padding, padding);
      entry->primitive = dnnl::convolution_backward_data(pd);
      lay_out(entry->first, DNNL_ARG_DIFF_DST, d.y, pd.diff_dst_desc(), true, thread, *entry);
      lay_out(entry->second, DNNL_ARG_WEIGHTS, d.weight, pd.weights_desc(), true, thread, *entry);
      lay_out(entry->result, DNNL_ARG_DIFF_SRC, d.x, pd.diff_src_desc(), false, thread, *entry);
      finish(*entry, pd, thread);
      break;
    }
    case ConvPass::backward_weight: {
      const auto pd = describe_backward<dnnl::convolution_backward_weights>(
          thread.engine, attributes, forward(d.hint_weight), direct, d.any_x, d.any_weight, d.any_y,
          strides, dilates, padding, padding);
      entry->primitive = dnnl::convolution_backward_weights(pd);
      lay_out(entry->first, DNNL_ARG_SRC, d.x, pd.src_desc(), true, thread, *entry);
      lay_out(entry->second, DNNL_ARG_DIFF_DST, d.y, pd.diff_dst_desc(), true, thread, *entry);
      lay_out(entry->result, DNNL_ARG_DIFF_WEIGHTS, d.weight, pd.diff_weights_desc(), false, thread,
              *entry);
      finish(*entry, pd, thread);
      break;
    }
  }
  return entry;
}

/// Gives an operand its memory.
void place(Operand& operand, void* data, std::byte* scratch) {
  operand.plain.set_data_handle(data);
  if (operand.reorder) operand.blocked.set_data_handle(scratch + operand.offset);
}

}  // namespace

void onednn_conv(ConvPass pass, const ConvPart& part) {
  static thread_local onednn::PrimitiveCache<ConvKey, ConvEntry> cache;
  const onednn::OneThread one;
  Thread& thread = Thread::current();
  try {
    const ConvKey key{part.shape, static_cast<int64_t>(pass), static_cast<int64_t>(part.dtype),
                      part.bias != nullptr};
    ConvEntry& entry =
        cache.find(key, [&](const ConvKey& missing) { return make_conv(missing, thread); });
    std::byte* scratch = thread.scratch_of(entry.bytes);
    void* first = pass == ConvPass::backward_input ? part.y : part.x;
    void* second = pass == ConvPass::backward_weight ? part.y : part.weight;
    void* result = pass == ConvPass::forward          ? part.y
                   : pass == ConvPass::backward_input ? part.x
                                                      : part.weight;
    place(entry.first, first, scratch);
    place(entry.second, second, scratch);
    place(entry.result, result, scratch);
    entry.scratch.set_data_handle(scratch + entry.scratch_offset);
    if (part.bias != nullptr) entry.bias.set_data_handle(const_cast<void*>(part.bias));
    for (Operand* operand : {&entry.first, &entry.second})
      if (operand->reorder)
        operand->reorder.execute(thread.stream, operand->plain, operand->blocked);
    entry.primitive.execute(thread.stream, entry.arguments);
    if (entry.result.reorder)
      entry.result.reorder.execute(thread.stream, entry.result.blocked, entry.result.plain);
    thread.stream.wait();
  } catch (const dnnl::error& error) {
    onednn::fail("conv2d", error);
  }
}

}  // namespace weft::inline v0::detail
