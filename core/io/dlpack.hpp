// Tensors to and from other libraries without a copy, by DLPack.
#pragma once

#include <weft/core/tensor.hpp>

extern "C" struct DLManagedTensor;  // of dlpack.h, or core/io/dlpack_abi.hpp

namespace weft::inline v0::io {

/// The tensor's memory for another library, which calls the result's `deleter` when it is done; the
/// memory lives as long. Throws ArgumentError for a tensor that requires grad (detach() it) and for
/// read-only memory (clone() it), DeviceError for meta and sim.
WEFT_API DLManagedTensor* to_dlpack(const Tensor& tensor);

/// A tensor over another library's memory, which is given back through `deleter` with the last
/// handle. Throws ArgumentError for dtypes, ranks, strides or addresses that tensors do not have
/// and DeviceError for a device that is not there; `managed` then stays the caller's.
WEFT_API Tensor from_dlpack(DLManagedTensor* managed);

}  // namespace weft::inline v0::io
