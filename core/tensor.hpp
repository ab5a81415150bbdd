// The tensor: a counted handle to shape, strides, dtype and a storage.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <weft/core/device.hpp>
#include <weft/core/dtype.hpp>
#include <weft/core/scalar.hpp>
#include <weft/core/shape.hpp>
#include <weft/core/storage.hpp>

namespace weft::inline v0 {

class Tensor;

/// What a kernel sees of a tensor: plain data, no ownership.
struct TensorMeta {
  std::byte* data = nullptr;  ///< the first element; null on meta and where numel is 0
  int64_t numel = 1;
  Shape shape;
  Strides strides;  ///< in elements
  DType dtype = DType::f32;
  Device device;
  bool contiguous = true;       ///< packed in C order
  bool wrapped_number = false;  ///< made from a C++ number: weak in type promotion

  int rank() const { return shape.rank(); }
  int64_t item_size() const { return size_of(dtype); }
};

/// Node of the autograd graph as far as core knows it; autograd derives from it.
struct GraphNode {
  std::atomic<uint32_t> references{1};
  void (*destroy)(GraphNode*) noexcept = nullptr;
};

/// What a leaf keeps for autograd (its gradient, its hooks); autograd defines it.
struct GradMeta {
  virtual ~GradMeta();
};

/// The counted object behind Tensor handles.
struct TensorImpl : TensorMeta {
  std::atomic<uint32_t> references{1};
  uint16_t output_index = 0;      ///< which output of `node`
  bool requires_grad = false;     ///< a leaf that was asked to, or a result of one
  bool is_view = false;           ///< shares its storage with the tensor it was made from
  bool checks_residency = false;  ///< the storage is evictable: dispatch looks before each use
  uint32_t view_version = 0;      ///< storage version when a recorded view was made
  int64_t storage_offset = 0;     ///< of the first element, in elements
  Storage storage;
  GraphNode* node = nullptr;  ///< producer of a non-leaf; null for leaves
  GradMeta* grad_meta = nullptr;

  bool is_leaf() const { return node == nullptr; }
  WEFT_API static void destroy(TensorImpl* impl) noexcept;
};

/// dtype, device and requires_grad of a new tensor.
struct TensorOptions {
  DType dtype = DType::f32;
  Device device = Device::cpu();
  bool requires_grad = false;
};

/// A value-semantic handle: copies share the data. `const Tensor&` in, `Tensor` out.
class WEFT_API Tensor {
 public:
  Tensor() = default;
  /// Takes over one reference.
  explicit Tensor(TensorImpl* impl) : impl_(impl) {}
  Tensor(const Tensor& other) : impl_(other.impl_) {
    if (impl_) impl_->references.fetch_add(1, std::memory_order_relaxed);
  }
  Tensor(Tensor&& other) noexcept : impl_(std::exchange(other.impl_, nullptr)) {}
  Tensor& operator=(const Tensor& other) {
    Tensor(other).swap(*this);
    return *this;
  }
  Tensor& operator=(Tensor&& other) noexcept {
    Tensor(std::move(other)).swap(*this);
    return *this;
  }
  ~Tensor() {
    if (impl_) drop(impl_);
  }
  void swap(Tensor& other) noexcept { std::swap(impl_, other.impl_); }

  /// False for a default-constructed handle, which has none of the properties below.
  bool defined() const { return impl_ != nullptr; }
  explicit operator bool() const { return defined(); }
  TensorImpl* impl() const { return impl_; }
  /// The impl, or an ArgumentError where the handle is empty.
  TensorImpl* checked() const {
    if (impl_ == nullptr) [[unlikely]]
      fail_undefined();
    return impl_;
  }
  /// Same tensor object (not merely equal values).
  bool is_same(const Tensor& other) const { return impl_ == other.impl_; }

  const Shape& shape() const { return checked()->shape; }
  const Strides& strides() const { return checked()->strides; }
  /// Size of dimension `dim`; negative ones count from the back. Throws ArgumentError out of range.
  int64_t size(int64_t dim) const;
  int dim() const { return checked()->rank(); }
  int64_t numel() const { return checked()->numel; }
  /// Bytes of the elements (not of the storage behind).
  int64_t nbytes() const { return numel() * size_of(dtype()); }
  DType dtype() const { return checked()->dtype; }
  Device device() const { return checked()->device; }
  bool is_contiguous() const { return checked()->contiguous; }
  const Storage& storage() const { return checked()->storage; }
  /// Offset of the first element from the storage's start, in elements.
  int64_t storage_offset() const;
  bool is_floating_point() const { return is_floating(dtype()); }
  /// How often the storage was written to.
  uint32_t version() const;

  /// The only element as T, converted. Waits for the device. Throws ArgumentError unless numel is
  /// 1, DeviceError on meta.
  template <class T>
  T item() const {
    const Scalar value = item_scalar();
    return value.is_real() ? static_cast<T>(value.to_double()) : static_cast<T>(value.to_int());
  }
  Scalar item_scalar() const;

  /// The elements in memory, in the order of the strides. Throws ArgumentError where T is not the
  /// dtype, DeviceError where the host cannot read the memory.
  template <class T>
  const T* data() const {
    return static_cast<const T*>(host_data(dtype_of<T>));
  }
  /// As data(), for writing; raises the version. Throws ArgumentError on read-only memory too.
  template <class T>
  T* mutable_data() const {
    return static_cast<T*>(mutable_host_data(dtype_of<T>));
  }
  /// All elements in C order, copied to the host and converted. Waits for the device.
  template <class T>
  std::vector<T> to_vector() const {
    std::vector<T> values(static_cast<size_t>(numel()));
    copy_to_host(values.data(), dtype_of<T>);
    return values;
  }

  // Conversions. `to` returns *this where nothing changes.
  Tensor to(DType dtype) const;
  Tensor to(Device device) const;
  Tensor to(Device device, DType dtype) const;
  Tensor cpu() const { return to(Device::cpu()); }
  Tensor clone() const;       ///< packed copy, recorded
  Tensor contiguous() const;  ///< *this where it is packed already
  Tensor detach() const;      ///< same memory, outside the graph

  // Views; see ops.hpp for the same as free functions.
  Tensor view(const Shape& shape) const;
  Tensor reshape(const Shape& shape) const;
  Tensor transpose(int64_t dim0, int64_t dim1) const;
  Tensor t() const;  ///< transpose of a matrix
  Tensor permute(const Dims& dims) const;
  Tensor unsqueeze(int64_t dim) const;
  Tensor squeeze() const;
  Tensor squeeze(int64_t dim) const;
  Tensor flatten(int64_t start_dim = 0, int64_t end_dim = -1) const;
  Tensor expand(const Shape& shape) const;
  Tensor slice(int64_t dim, int64_t start, int64_t end, int64_t step = 1) const;
  Tensor select(int64_t dim, int64_t index) const;
  Tensor narrow(int64_t dim, int64_t start, int64_t length) const;

  // In place. They raise the version; under recording they throw ArgumentError for a leaf that
  // requires grad and for a view, each with the remedy.
  Tensor& fill_(Scalar value);
  Tensor& zero_();
  Tensor& copy_(const Tensor& source);  ///< broadcasts and converts
  Tensor& add_(const Tensor& other, Scalar alpha = 1);
  Tensor& add_(Scalar other);
  Tensor& sub_(const Tensor& other);
  Tensor& mul_(const Tensor& other);
  Tensor& mul_(Scalar other);
  Tensor& div_(const Tensor& other);
  Tensor& div_(Scalar other);

  // Autograd; defined there.
  bool requires_grad() const { return checked()->requires_grad; }
  bool is_leaf() const { return checked()->is_leaf(); }
  /// Turns recording for a leaf on or off. Throws ArgumentError for integers and for non-leaves.
  Tensor& requires_grad_(bool value = true);
  /// The gradient that backward() added up; an undefined tensor where there is none.
  Tensor grad() const;
  /// Replaces the gradient; an undefined tensor removes it. Throws ArgumentError where shape, dtype
  /// or device differ.
  void set_grad(const Tensor& grad) const;
  /// Adds d(this)/d(leaf) to every leaf's grad. `gradient` may be left out for a single element.
  void backward() const;
  void backward(const Tensor& gradient, bool retain_graph = false, bool create_graph = false) const;
  /// Runs when the gradient of this tensor is known, before it is used; a defined result replaces
  /// it. For a leaf: when its gradient of this pass is complete, before it is added to grad().
  void register_hook(std::function<Tensor(const Tensor&)> hook) const;
  /// Keeps grad() for a non-leaf too.
  void retain_grad() const;

 private:
  static void drop(TensorImpl* impl) noexcept {
    // A sole owner needs no locked instruction: nobody else can raise the count.
    if (impl->references.load(std::memory_order_acquire) == 1 ||
        impl->references.fetch_sub(1, std::memory_order_acq_rel) == 1)
      TensorImpl::destroy(impl);
  }
  [[noreturn]] static void fail_undefined();
  const void* host_data(DType expected) const;
  void* mutable_host_data(DType expected) const;
  void copy_to_host(void* out, DType dtype) const;

  TensorImpl* impl_ = nullptr;
};

/// Text as PyTorch prints it: values, summarised above 1000 elements, and dtype or device where
/// they are not f32 and cpu. Waits for the device.
WEFT_API std::string to_string(const Tensor& tensor);

}  // namespace weft::inline v0
