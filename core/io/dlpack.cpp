#include <weft/core/io/dlpack.hpp>

#include <memory>

#include <weft/core/backend.hpp>
#include <weft/core/base/check.hpp>
#include <weft/core/io/dlpack_abi.hpp>
#include <weft/core/op.hpp>

namespace weft::inline v0::io {

namespace {

enum : uint8_t { kSigned = 0, kUnsigned = 1, kFloat = 2, kBfloat = 4, kBool = 6 };
enum : int32_t { kCpu = 1, kCuda = 2, kPinnedHost = 3 };

uint8_t code_of(DType dtype) {
  if (dtype == DType::boolean) return kBool;
  if (dtype == DType::bf16) return kBfloat;
  if (is_floating(dtype)) return kFloat;
  return dtype == DType::u8 ? kUnsigned : kSigned;
}

DType dtype_of(const DLDataType& type) {
  if (type.lanes == 1)
    for (int i = 0; i < kDTypeCount; ++i) {
      const auto dtype = static_cast<DType>(i);
      if (code_of(dtype) == type.code && size_of(dtype) * 8 == type.bits) return dtype;
    }
  detail::fail<ArgumentError>(
      "from_dlpack: no dtype for code {} of {} bits in {} lanes; convert the tensor first",
      type.code, type.bits, type.lanes);
}

/// A tensor on loan and the lists that its description points to.
struct Loan {
  Tensor tensor;
  Dims shape, strides;
  DLManagedTensor managed;
};

void end_loan(DLManagedTensor* managed) {
  const std::unique_ptr<Loan> loan(static_cast<Loan*>(managed->manager_ctx));
  loan->tensor.storage().unpin();
}

Device device_of(const DLDevice& device) {
  WEFT_CHECK(DeviceError, device.device_type >= kCpu && device.device_type <= kPinnedHost,
             "from_dlpack: device type {} is unknown; copy the tensor to the CPU first",
             device.device_type);
  if (device.device_type != kCuda) return Device::cpu();
  const Device cuda = Device::cuda(device.device_id);
  detail::backend(cuda);  // throws where it is not there
  return cuda;
}

void check_description(const DLTensor& t) {
  WEFT_CHECK(ArgumentError, t.ndim >= 0 && t.ndim <= kMaxRank,
             "from_dlpack: {} dims; tensors have at most {}", t.ndim, kMaxRank);
  for (int i = 0; i < t.ndim; ++i)
    WEFT_CHECK(ArgumentError, t.shape[i] >= 0, "from_dlpack: dim {} has the size {}", i,
               t.shape[i]);
  for (int i = 0; t.strides != nullptr && i < t.ndim; ++i)
    WEFT_CHECK(ArgumentError, t.strides[i] >= 0 || t.shape[i] <= 1,
               "from_dlpack: dim {} has the stride {}; negative ones are not supported, make a "
               "packed copy",
               i, t.strides[i]);
}

/// Elements from the first to the last one.
int64_t extent_of(const Shape& shape, const Strides& strides) {
  int64_t last = 0;
  bool overflow = false;
  for (int i = 0; i < shape.rank(); ++i) {
    if (shape[i] == 0) return 0;
    int64_t step = 0;
    overflow |= __builtin_mul_overflow(shape[i] - 1, strides[i], &step);
    overflow |= __builtin_add_overflow(last, step, &last);
  }
  WEFT_CHECK(ArgumentError, !overflow && last < (int64_t{1} << 58),
             "from_dlpack: shape {} with strides {} has more bytes than an address has",
             to_string(shape), to_string(strides));
  return last + 1;
}

void give_back(StorageImpl& impl) noexcept {
  auto* const managed = static_cast<DLManagedTensor*>(impl.context);
  if (managed->deleter != nullptr) managed->deleter(managed);
}

}  // namespace

DLManagedTensor* to_dlpack(const Tensor& tensor) {
  const Device device = tensor.device();
  WEFT_CHECK(DeviceError, device.is_cpu() || device.type == DeviceType::cuda,
             "to_dlpack: other libraries cannot use a tensor on {}; copy it with .cpu()",
             to_string(device));
  WEFT_CHECK(ArgumentError, !tensor.requires_grad(),
             "to_dlpack: the tensor requires grad, which others would not see; detach() it");
  WEFT_CHECK(ArgumentError, !(tensor.storage()->flags & kReadOnly),
             "to_dlpack: the storage is read-only (a mapped file), which DLPack cannot say; "
             "clone() the tensor first");
  auto loan = std::make_unique<Loan>(Loan{tensor, tensor.shape(), tensor.strides(), {}});
  tensor.storage().pin();
  DLTensor& t = loan->managed.dl_tensor;
  t.data = tensor.storage()->data;
  t.device = {device.is_cpu() ? kCpu : kCuda, device.index};
  t.ndim = tensor.dim();
  t.dtype = {code_of(tensor.dtype()), static_cast<uint8_t>(size_of(tensor.dtype()) * 8), 1};
  t.shape = loan->shape.begin();
  t.strides = loan->strides.begin();
  t.byte_offset = static_cast<uint64_t>(tensor.storage_offset() * size_of(tensor.dtype()));
  loan->managed.deleter = end_loan;
  loan->managed.manager_ctx = loan.get();
  return &loan.release()->managed;
}

Tensor from_dlpack(DLManagedTensor* managed) {
  WEFT_CHECK(ArgumentError, managed != nullptr, "from_dlpack: the pointer is null");
  const DLTensor& t = managed->dl_tensor;
  check_description(t);
  const DType dtype = dtype_of(t.dtype);
  const Device device = device_of(t.device);
  const auto rank = static_cast<size_t>(t.ndim);
  const Shape shape(std::span<const int64_t>(t.shape, rank));
  const Strides strides = t.strides == nullptr ? contiguous_strides(shape)
                                               : Strides(std::span<const int64_t>(t.strides, rank));
  const auto bytes = static_cast<size_t>(extent_of(shape, strides) * size_of(dtype));
  auto* const data = static_cast<std::byte*>(t.data) + t.byte_offset;
  WEFT_CHECK(ArgumentError,
             reinterpret_cast<uintptr_t>(data) % static_cast<uintptr_t>(size_of(dtype)) == 0,
             "from_dlpack: the {} data is not aligned to {} bytes; make a copy of it",
             name_of(dtype), size_of(dtype));
  const bool pinned = t.device.device_type == kPinnedHost;
  Storage storage =
      Storage::wrap(data, bytes, device, static_cast<uint8_t>(kBorrowed | (pinned ? kPinned : 0)),
                    give_back, managed);
  return tensor_over(storage, shape, strides, 0, dtype);
}

}  // namespace weft::inline v0::io
