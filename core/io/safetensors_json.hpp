// Headers and indexes of safetensors as text; the only place that sees a JSON library.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <weft/core/io/safetensors.hpp>

namespace weft::inline v0::detail {

/// Largest header that is read, in bytes, as in the format's own reader.
inline constexpr uint64_t kMaxHeader = 100'000'000;

/// A dtype of the format. The order of the table is the format's rank.
struct FileDType {
  std::string_view name;
  int bits;
};
/// Null for an unknown name (they are case-sensitive).
const FileDType* find_file_dtype(std::string_view name);
int rank_of(const FileDType& dtype);

struct SafetensorsHeader {
  std::vector<io::SafetensorsEntry> entries;  ///< by place in the file
  io::SafetensorsMetadata metadata;
};

/// Parses and checks the text of a header. `data_start` is the first byte behind it. Throws
/// FormatError naming `path`, the key and the values.
SafetensorsHeader parse_header(const std::string& path, std::string_view text, uint64_t data_start,
                               uint64_t file_size, bool lenient);

/// The text of a header, padded with spaces to a multiple of 8. The entries' offsets count from the
/// start of the data.
std::string format_header(const std::vector<io::SafetensorsEntry>& entries,
                          const io::SafetensorsMetadata& metadata);

/// Key and shard of an index file, in its order. Throws FormatError E_INDEX or E_INDEX_PATH.
std::vector<std::pair<std::string, std::string>> parse_index(const std::string& path,
                                                             std::string_view text);

bool is_utf8(std::string_view text);

}  // namespace weft::inline v0::detail
