// Text of tensors, laid out as PyTorch's repr with its default options.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include <weft/core/base/check.hpp>
#include <weft/core/op.hpp>
#include <weft/core/tensor.hpp>

namespace weft::inline v0 {

// Note [How tensors are printed]
// All layout is PyTorch's: four digits, one width for all elements, whole numbers as `1.`,
// scientific where magnitudes are more than 1000 apart, the first and last three of each dim above
// 1000 elements, lines of 80 columns, suffixes for what is not the default. Two words are weft's
// own: dtypes read as in C++ code (dtype=f64), and grad_fn names the op (grad_fn=<Add>).
namespace {

constexpr int64_t kThreshold = 1000, kEdge = 3;
constexpr size_t kLineWidth = 80;

/// One element, as wide as any.
struct Element {
  DType dtype;
  double real = 0;
  int64_t whole = 0;
};

template <class T>
T load(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof(T));
  return value;
}

Element element_at(const std::byte* at, DType dtype) {
  switch (dtype) {
    case DType::boolean: return {dtype, 0, load<uint8_t>(at) != 0};
    case DType::u8: return {dtype, 0, load<uint8_t>(at)};
    case DType::i8: return {dtype, 0, load<int8_t>(at)};
    case DType::i16: return {dtype, 0, load<int16_t>(at)};
    case DType::i32: return {dtype, 0, load<int32_t>(at)};
    case DType::i64: return {dtype, 0, load<int64_t>(at)};
    case DType::f16: return {dtype, static_cast<float>(load<float16>(at)), 0};
    case DType::bf16: return {dtype, static_cast<float>(load<bfloat16>(at)), 0};
    case DType::f32: return {dtype, load<float>(at), 0};
    case DType::f64: return {dtype, load<double>(at), 0};
  }
  detail::fail<ArgumentError>("to_string: unknown dtype {}", static_cast<int>(dtype));
}

/// How the elements of one tensor are written, chosen from all that are shown.
class Format {
 public:
  explicit Format(const std::vector<Element>& shown) {
    double least = INFINITY, most = 0;
    for (const Element& e : shown) {
      if (!is_floating(e.dtype) || !std::isfinite(e.real) || e.real == 0) continue;
      least = std::min(least, std::abs(e.real));
      most = std::max(most, std::abs(e.real));
      whole_ = whole_ && e.real == std::ceil(e.real);
    }
    scientific_ = most > 0 && (most / least > 1000 || most > 1e8 || (!whole_ && least < 1e-4));
    // Infinities, NaN and zeros do not count for the width of floating-point elements.
    for (const Element& e : shown)
      if (!is_floating(e.dtype) || (std::isfinite(e.real) && e.real != 0))
        width_ = std::max(width_, write(e).size());
  }

  size_t width() const { return width_; }

  std::string operator()(const Element& e) const {
    const std::string text = write(e);
    return std::string(text.size() < width_ ? width_ - text.size() : 0, ' ') + text;
  }

 private:
  std::string write(const Element& e) const {
    if (e.dtype == DType::boolean) return e.whole ? "True" : "False";
    if (!is_floating(e.dtype)) return std::to_string(e.whole);
    if (std::isnan(e.real)) return "nan";
    if (std::isinf(e.real)) return e.real < 0 ? "-inf" : "inf";
    if (scientific_) return fmt::format("{:.4e}", e.real);
    return whole_ ? fmt::format("{:.0f}.", e.real) : fmt::format("{:.4f}", e.real);
  }

  bool whole_ = true;
  bool scientific_ = false;
  size_t width_ = 1;
};

/// Lays out the elements of a host tensor.
class Layout {
 public:
  explicit Layout(const TensorImpl& tensor)
      : tensor_(tensor),
        data_(tensor.storage->data + tensor.storage_offset * tensor.item_size()),
        summarised_(tensor.numel > kThreshold),
        format_(shown()) {}

  /// The text of the elements, continued lines indented for `tensor(`.
  std::string text(size_t indent) const { return text_of(0, 0, indent); }

 private:
  bool is_cut(int dim) const { return summarised_ && tensor_.shape[dim] > 2 * kEdge; }

  /// Calls f(position) for each shown position of a dim, gap() between its two ends.
  template <class F, class G>
  void each(int dim, F f, G gap) const {
    const int64_t size = tensor_.shape[dim];
    for (int64_t i = 0; i < size; ++i) {
      if (is_cut(dim) && i == kEdge) {
        gap();
        i = size - kEdge;
      }
      f(i);
    }
  }

  Element at(int64_t offset) const {
    return element_at(data_ + offset * tensor_.item_size(), tensor_.dtype);
  }

  void collect(int dim, int64_t offset, std::vector<Element>& out) const {
    if (dim == tensor_.rank()) {
      out.push_back(at(offset));
      return;
    }
    each(
        dim, [&](int64_t i) { collect(dim + 1, offset + i * tensor_.strides[dim], out); }, [] {});
  }

  std::vector<Element> shown() const {
    std::vector<Element> elements;
    collect(0, 0, elements);
    return elements;
  }

  std::string row(int64_t offset, size_t indent) const {
    const int dim = tensor_.rank() - 1;
    std::vector<std::string> texts;
    each(
        dim, [&](int64_t i) { texts.push_back(format_(at(offset + i * tensor_.strides[dim]))); },
        [&] { texts.emplace_back(" ..."); });
    const size_t room = indent < kLineWidth ? kLineWidth - indent : 0;
    const size_t per_line = std::max<size_t>(1, room / (format_.width() + 2));
    std::string out = "[";
    for (size_t i = 0; i < texts.size(); ++i) {
      if (i > 0) out += i % per_line == 0 ? ",\n" + std::string(indent + 1, ' ') : ", ";
      out += texts[i];
    }
    return out + "]";
  }

  std::string text_of(int dim, int64_t offset, size_t indent) const {
    if (tensor_.rank() == 0) return format_(at(0));
    if (dim == tensor_.rank() - 1) return row(offset, indent);
    const std::string between = "," +
                                std::string(static_cast<size_t>(tensor_.rank() - dim - 1), '\n') +
                                std::string(indent + 1, ' ');
    std::string out = "[";
    const auto add = [&](const std::string& part) {
      out += (out.size() > 1 ? between : "") + part;
    };
    each(
        dim,
        [&](int64_t i) { add(text_of(dim + 1, offset + i * tensor_.strides[dim], indent + 1)); },
        [&] { add("..."); });
    return out + "]";
  }

  const TensorImpl& tensor_;
  const std::byte* data_;
  bool summarised_;
  Format format_;
};

/// "(2, 3)", "(3,)", "()".
std::string tuple_of(const Shape& shape) {
  std::string out = "(";
  for (int i = 0; i < shape.rank(); ++i) out += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  return out + (shape.rank() == 1 ? ",)" : ")");
}

/// Brings evictable memory in while it is printed.
struct Pin {
  explicit Pin(const Storage& s) : storage(s) { storage.pin(); }
  ~Pin() { storage.unpin(); }
  Pin(const Pin&) = delete;
  Pin& operator=(const Pin&) = delete;
  Storage storage;
};

std::string elements_of(const Tensor& tensor, size_t indent) {
  if (tensor.device().is_meta()) return "...";
  if (tensor.numel() == 0) return "[]";
  const Pin pin(tensor.storage());
  const Tensor host = tensor.device().is_cpu() ? tensor : tensor.detach().cpu();
  return Layout(*host.impl()).text(indent);
}

std::vector<std::string> suffixes_of(const Tensor& tensor) {
  const DType dtype = tensor.dtype();
  const bool meta = tensor.device().is_meta(), empty = tensor.numel() == 0;
  std::vector<std::string> suffixes;
  if (!tensor.device().is_cpu()) suffixes.push_back("device='" + to_string(tensor.device()) + "'");
  if (meta || (empty && tensor.dim() != 1)) suffixes.push_back("size=" + tuple_of(tensor.shape()));
  // Elements show whether they are i64 or bool; where there are none, the dtype is written.
  const bool seen = !meta && !empty && (dtype == DType::i64 || dtype == DType::boolean);
  if (dtype != DType::f32 && !seen) suffixes.push_back(fmt::format("dtype={}", name_of(dtype)));
  if (tensor.impl()->node != nullptr)
    suffixes.push_back("grad_fn=<" + detail::node_name(tensor.impl()->node) + ">");
  else if (tensor.requires_grad())
    suffixes.emplace_back("requires_grad=True");
  return suffixes;
}

}  // namespace

std::string to_string(const Tensor& tensor) {
  if (!tensor.defined()) return "tensor(undefined)";
  constexpr size_t kIndent = sizeof("tensor(") - 1;
  std::string text = "tensor(" + elements_of(tensor, kIndent);
  const size_t newline = text.rfind('\n');
  size_t last_line = newline == std::string::npos ? text.size() + 2 : text.size() - newline + 1;
  for (const std::string& suffix : suffixes_of(tensor)) {
    const bool fits = last_line + suffix.size() + 2 <= kLineWidth;
    text += fits ? ", " + suffix : ",\n" + std::string(kIndent, ' ') + suffix;
    last_line = fits ? last_line + suffix.size() + 2 : kIndent + suffix.size();
  }
  return text + ")";
}

}  // namespace weft::inline v0
