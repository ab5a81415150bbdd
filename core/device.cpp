#include <weft/core/device.hpp>

#include <charconv>
#include <string_view>

#include <weft/core/base/check.hpp>

namespace weft::inline v0 {

namespace {
constexpr std::string_view kNames[kDeviceTypeCount] = {"cpu", "cuda", "meta", "sim"};
bool is_indexed(DeviceType type) { return type == DeviceType::cuda || type == DeviceType::sim; }
}  // namespace

std::string to_string(Device device) {
  std::string text(kNames[static_cast<int>(device.type)]);
  if (is_indexed(device.type)) text += ":" + std::to_string(device.index);
  return text;
}

Device parse_device(const std::string& text) {
  const size_t colon = text.find(':');
  const std::string_view name = std::string_view(text).substr(0, colon);
  for (int i = 0; i < kDeviceTypeCount; ++i) {
    if (name != kNames[i]) continue;
    const auto type = static_cast<DeviceType>(i);
    if (colon == std::string::npos) return Device{type, 0};
    int index = -1;
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data() + colon + 1, end, index);
    if (is_indexed(type) && error == std::errc() && stop == end && index >= 0 && index < 128)
      return Device{type, static_cast<int8_t>(index)};
  }
  detail::fail<ArgumentError>("device: \"{}\" is none; use cpu, meta, cuda, cuda:N, sim or sim:N",
                              text);
}

}  // namespace weft::inline v0
