// Writing safetensors files byte by byte, also broken ones.
#pragma once

#include <cstdint>
#include <fstream>
#include <iterator>
#include <string>

#include <weft/core/base/error.hpp>
#include <weft/core/io/safetensors.hpp>

namespace weft::test {

inline void write_bytes(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

inline std::string read_bytes(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// Length, header and data put together.
inline std::string safetensors_bytes(const std::string& header, const std::string& data,
                                     uint64_t length) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(length >> (8 * i));
  return bytes + header + data;
}

inline std::string safetensors_bytes(const std::string& header, const std::string& data = "") {
  return safetensors_bytes(header, data, header.size());
}

/// The code of the FormatError that opening `path` throws; empty where it opens.
inline std::string verdict(const std::string& path, bool lenient = false) {
  try {
    const io::SafetensorsFile file(path, {.lenient = lenient});
    return "";
  } catch (const FormatError& error) {
    return error.code();
  }
}

}  // namespace weft::test
