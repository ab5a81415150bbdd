// Where a tensor lives.
#pragma once

#include <cstdint>
#include <string>

#include <weft/core/base/api.hpp>

namespace weft::inline v0 {

enum class DeviceType : uint8_t { cpu, cuda, meta, sim };
inline constexpr int kDeviceTypeCount = 4;

/// A kind of device and which one of that kind. `meta` has shapes and no data; `sim` is a device
/// for tests whose memory the host cannot touch and whose kernels run later on a thread of their
/// own.
struct Device {
  DeviceType type = DeviceType::cpu;
  int8_t index = 0;

  static constexpr Device cpu() { return {DeviceType::cpu, 0}; }
  static constexpr Device cuda(int index = 0) {
    return {DeviceType::cuda, static_cast<int8_t>(index)};
  }
  static constexpr Device meta() { return {DeviceType::meta, 0}; }
  static constexpr Device sim(int index = 0) {
    return {DeviceType::sim, static_cast<int8_t>(index)};
  }

  constexpr bool is_cpu() const { return type == DeviceType::cpu; }
  constexpr bool is_meta() const { return type == DeviceType::meta; }
  constexpr bool operator==(const Device&) const = default;
};

/// "cpu", "meta", "cuda:1", "sim:0".
WEFT_API std::string to_string(Device device);

/// The reverse of to_string; "cuda" and "sim" alone mean index 0. Throws ArgumentError otherwise.
WEFT_API Device parse_device(const std::string& text);

}  // namespace weft::inline v0
