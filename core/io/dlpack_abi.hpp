// The structs of DLPack (https://dmlc.github.io/dlpack), as far as weft exchanges them. Their
// layout is that of versions 0.2 to 0.8; 1.0 keeps it for DLManagedTensor. A file that includes
// dlpack.h itself gets that one's.
#pragma once

#ifndef DLPACK_DLPACK_H_

#include <cstdint>

extern "C" {

struct DLDevice {
  int32_t device_type;  ///< 1: CPU, 2: CUDA, 3: pinned host memory
  int32_t device_id;
};

struct DLDataType {
  uint8_t code;  ///< 0: signed, 1: unsigned, 2: IEEE float, 4: bfloat, 6: bool
  uint8_t bits;
  uint16_t lanes;
};

struct DLTensor {
  void* data;
  DLDevice device;
  int32_t ndim;
  DLDataType dtype;
  int64_t* shape;
  int64_t* strides;  ///< in elements; null: packed
  uint64_t byte_offset;
};

struct DLManagedTensor {
  DLTensor dl_tensor;
  void* manager_ctx;
  void (*deleter)(DLManagedTensor* self);
};

}  // extern "C"

#endif
