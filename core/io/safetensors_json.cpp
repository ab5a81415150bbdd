#include <weft/core/io/safetensors_json.hpp>

#include <algorithm>
#include <unordered_map>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <weft/core/base/check.hpp>
#include <weft/core/io/json_tree.hpp>

namespace weft::inline v0::detail {

namespace {

using io::SafetensorsEntry;

constexpr uint64_t kMaxDim = uint64_t{1} << 48;

constexpr FileDType kFileDTypes[] = {
    {"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6},     {"U8", 8},
    {"I8", 8},      {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E5M2FNUZ", 8}, {"F8_E4M3FNUZ", 8},
    {"F8_E8M0", 8}, {"I16", 16},    {"U16", 16},    {"F16", 16},        {"BF16", 16},
    {"I32", 32},    {"U32", 32},    {"F32", 32},    {"C64", 64},        {"F64", 64},
    {"I64", 64},    {"U64", 64},
};

template <class... Args>
[[noreturn]] void malformed(const char* code, fmt::format_string<Args...> text, Args&&... args) {
  throw FormatError(code, fmt::format(text, std::forward<Args>(args)...));
}

const JsonTree& field(const std::string& path, const std::string& key, const JsonTree& value,
                      const char* name) {
  const JsonTree* const found = value.find(name);
  if (found == nullptr)
    malformed("E_HEADER_JSON", "{}: tensor '{}' has no field '{}'", path, key, name);
  return *found;
}

std::vector<int64_t> parse_shape(const std::string& path, const std::string& key,
                                 const JsonTree& value) {
  if (!value.is_list())
    malformed("E_SHAPE", "{}: tensor '{}': shape {} is not a list", path, key, value.describe());
  std::vector<int64_t> shape;
  for (const auto& [name, size] : value.members) {
    if (!size.is_whole() || size.whole > kMaxDim)
      malformed("E_SHAPE", "{}: tensor '{}': shape {}: sizes are whole numbers from 0 to 2^48",
                path, key, value.describe());
    shape.push_back(static_cast<int64_t>(size.whole));
  }
  return shape;
}

void parse_offsets(const std::string& path, const JsonTree& value, SafetensorsEntry& entry) {
  const auto& ends = value.members;
  const bool pair =
      value.is_list() && ends.size() == 2 && ends[0].value.is_whole() && ends[1].value.is_whole();
  if (!pair)
    malformed("E_OFFSET", "{}: tensor '{}': data_offsets {} are not two whole numbers", path,
              entry.key, value.describe());
  entry.begin = ends[0].value.whole;
  entry.end = ends[1].value.whole;
}

SafetensorsEntry parse_entry(const std::string& path, const std::string& key,
                             const JsonTree& value) {
  if (!value.is_object())
    malformed("E_HEADER_JSON", "{}: tensor '{}' is {}, not an object", path, key, value.describe());
  SafetensorsEntry entry;
  entry.key = key;
  const JsonTree& dtype = field(path, key, value, "dtype");
  if (!dtype.is_text() || find_file_dtype(dtype.text) == nullptr)
    malformed("E_DTYPE_UNKNOWN", "{}: tensor '{}' has the unknown dtype {}", path, key,
              dtype.describe());
  entry.dtype = dtype.text;
  entry.shape = parse_shape(path, key, field(path, key, value, "shape"));
  parse_offsets(path, field(path, key, value, "data_offsets"), entry);
  return entry;
}

io::SafetensorsMetadata parse_metadata(const std::string& path, const JsonTree& value) {
  io::SafetensorsMetadata metadata;
  if (value.kind == JsonTree::Kind::null) return metadata;
  if (!value.is_object())
    malformed("E_HEADER_JSON", "{}: __metadata__ is {}, not an object", path, value.describe());
  for (const auto& [key, text] : value.members) {
    if (!text.is_text())
      malformed("E_HEADER_JSON", "{}: __metadata__ '{}' is {}, not a string", path, key,
                text.describe());
    metadata[key] = text.text;
  }
  return metadata;
}

std::string shape_text(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

/// Bytes that dtype and shape ask for.
uint64_t bytes_of(const std::string& path, const SafetensorsEntry& entry) {
  uint64_t bits = static_cast<uint64_t>(find_file_dtype(entry.dtype)->bits), count = 1;
  bool overflow = false;
  for (const int64_t size : entry.shape)
    overflow |= __builtin_mul_overflow(count, static_cast<uint64_t>(size), &count);
  overflow |= __builtin_mul_overflow(bits, count, &bits);
  if (overflow)
    malformed("E_OVERFLOW", "{}: tensor '{}': {} elements of {} are more than 2^64 bits", path,
              entry.key, shape_text(entry.shape), entry.dtype);
  if (bits % 8 != 0)
    malformed("E_SIZE", "{}: tensor '{}': {} of {} is no whole number of bytes", path, entry.key,
              shape_text(entry.shape), entry.dtype);
  return bits / 8;
}

/// The data must follow each other without hole or overlap, and the file must end with them.
void check_extents(const std::string& path, const std::vector<SafetensorsEntry>& entries,
                   uint64_t data_start, uint64_t file_size) {
  uint64_t previous = 0;
  for (const SafetensorsEntry& entry : entries) {
    if (entry.begin != previous || entry.end < entry.begin)
      malformed("E_OFFSET", "{}: tensor '{}': data_offsets [{}, {}] after data that ends at {}",
                path, entry.key, entry.begin, entry.end, previous);
    const uint64_t bytes = bytes_of(path, entry);
    if (bytes != entry.end - entry.begin)
      malformed("E_SIZE", "{}: tensor '{}': {} of {} takes {} bytes, data_offsets [{}, {}] are {}",
                path, entry.key, shape_text(entry.shape), entry.dtype, bytes, entry.begin,
                entry.end, entry.end - entry.begin);
    previous = entry.end;
  }
  const uint64_t present = file_size - data_start;
  if (previous > present)
    malformed("E_TRUNCATED", "{}: the header promises {} bytes of data, {} are missing", path,
              previous, previous - present);
  if (previous < present)
    malformed("E_TRAILING", "{}: {} bytes follow the {} bytes of data that the header promises",
              path, present - previous, previous);
}

void check_start(const std::string& path, std::string_view text, bool lenient) {
  if (!is_utf8(text)) malformed("E_HEADER_UTF8", "{}: the header is not valid UTF-8", path);
  const size_t brace = lenient ? text.find_first_not_of(" \t\r\n") : 0;
  if (brace == text.npos || brace >= text.size() || text[brace] != '{')
    malformed("E_HEADER_JSON", "{}: the header does not begin with '{{'", path);
}

}  // namespace

const FileDType* find_file_dtype(std::string_view name) {
  const auto* const found = std::find_if(std::begin(kFileDTypes), std::end(kFileDTypes),
                                         [&](const FileDType& d) { return d.name == name; });
  return found == std::end(kFileDTypes) ? nullptr : found;
}

int rank_of(const FileDType& dtype) { return static_cast<int>(&dtype - kFileDTypes); }

bool is_utf8(std::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const int more = lead < 0x80       ? 0
                     : lead >> 5 == 6  ? 1
                     : lead >> 4 == 14 ? 2
                     : lead >> 3 == 30 ? 3
                                       : -1;
    if (more < 0 || text.size() - i <= static_cast<size_t>(more)) return false;
    uint32_t point = more == 0 ? lead : lead & (0x3fu >> more);
    for (int k = 1; k <= more; ++k) {
      const auto next = static_cast<unsigned char>(text[i + static_cast<size_t>(k)]);
      if (next >> 6 != 2) return false;
      point = point << 6 | (next & 0x3fu);
    }
    // Longer than needed, a surrogate half, or past the last code point.
    constexpr uint32_t kLeast[] = {0, 0x80, 0x800, 0x10000};
    if (point < kLeast[more] || (point >= 0xd800 && point < 0xe000) || point > 0x10ffff)
      return false;
    i += static_cast<size_t>(more) + 1;
  }
  return true;
}

SafetensorsHeader parse_header(const std::string& path, std::string_view text, uint64_t data_start,
                               uint64_t file_size, bool lenient) {
  check_start(path, text, lenient);
  const JsonTree json = parse_json(path, text, "E_HEADER_JSON", lenient);
  SafetensorsHeader header;
  std::unordered_map<std::string_view, size_t> places;  // where a key is repeated, the last counts
  for (const auto& [key, value] : json.members) {
    if (key == "__metadata__") {
      header.metadata = parse_metadata(path, value);
      continue;
    }
    SafetensorsEntry entry = parse_entry(path, key, value);
    const auto [place, is_new] = places.try_emplace(key, header.entries.size());
    if (is_new)
      header.entries.push_back(std::move(entry));
    else
      header.entries[place->second] = std::move(entry);
  }
  std::stable_sort(header.entries.begin(), header.entries.end(), [](const auto& a, const auto& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  });
  check_extents(path, header.entries, data_start, file_size);
  for (SafetensorsEntry& entry : header.entries) {
    entry.begin += data_start;
    entry.end += data_start;
  }
  return header;
}

std::string format_header(const std::vector<SafetensorsEntry>& entries,
                          const io::SafetensorsMetadata& metadata) {
  const auto quoted = [](const std::string& text) { return nlohmann::json(text).dump(); };
  std::string text = "{\"__metadata__\":" + nlohmann::json(metadata).dump();
  for (const SafetensorsEntry& entry : entries)
    text += fmt::format(",{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}",
                        quoted(entry.key), entry.dtype, fmt::join(entry.shape, ","), entry.begin,
                        entry.end);
  text += '}';
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

std::vector<std::pair<std::string, std::string>> parse_index(const std::string& path,
                                                             std::string_view text) {
  const JsonTree json = parse_json(path, text, "E_INDEX");
  const JsonTree* const weights = json.find("weight_map");
  if (weights == nullptr || !weights->is_object())
    malformed("E_INDEX", "{}: no object 'weight_map' of keys and file names", path);
  std::vector<std::pair<std::string, std::string>> map;
  for (const auto& [key, file] : weights->members) {
    if (!file.is_text())
      malformed("E_INDEX", "{}: weight_map of '{}' is {}, not a file name", path, key,
                file.describe());
    const std::string& name = file.text;
    // A name only: an index must not lead out of its folder.
    const bool plain = !name.empty() && name != "." && name != ".." &&
                       name.find_first_of(std::string_view("/\\\0", 3)) == name.npos;
    if (!plain)
      malformed("E_INDEX_PATH", "{}: weight_map of '{}' is {}, not a plain file name", path, key,
                file.describe());
    map.emplace_back(key, name);
  }
  return map;
}

}  // namespace weft::inline v0::detail
