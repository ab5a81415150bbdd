// Little-endian numbers in and out of byte strings, bounds checked.
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>

namespace weft::inline v0::dist::detail {

template <std::integral T>
T little_endian(T value) {
  if constexpr (std::endian::native == std::endian::little) return value;
  T swapped = 0;
  auto* to = reinterpret_cast<unsigned char*>(&swapped);
  const auto* from = reinterpret_cast<const unsigned char*>(&value);
  for (size_t i = 0; i < sizeof(T); ++i) to[i] = from[sizeof(T) - 1 - i];
  return swapped;
}

template <std::integral T>
void put(std::string& out, std::type_identity_t<T> value) {
  const T wire = little_endian<T>(value);
  out.append(reinterpret_cast<const char*>(&wire), sizeof(T));
}

/// Takes numbers and strings from the front of a buffer. A read past the end gives zeros and clears
/// `ok()`, so that a parser checks once, at its end.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : rest_(bytes) {}

  template <std::integral T>
  T take() {
    T wire = 0;
    if (rest_.size() < sizeof(T)) {
      ok_ = false;
      rest_ = {};
      return 0;
    }
    std::memcpy(&wire, rest_.data(), sizeof(T));
    rest_.remove_prefix(sizeof(T));
    return little_endian<T>(wire);
  }

  std::string_view take_bytes(size_t count) {
    if (rest_.size() < count) {
      ok_ = false;
      rest_ = {};
      return {};
    }
    const std::string_view bytes = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return bytes;
  }

  bool ok() const noexcept { return ok_; }
  std::string_view rest() const noexcept { return rest_; }

 private:
  std::string_view rest_;
  bool ok_ = true;
};

}  // namespace weft::inline v0::dist::detail
