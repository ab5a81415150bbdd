#include <weft/core/io/safetensors.hpp>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include <weft/core/base/check.hpp>
#include <weft/core/base/log.hpp>
#include <weft/core/base/nearest.hpp>
#include <weft/core/io/mapped_file.hpp>
#include <weft/core/io/safetensors_json.hpp>
#include <weft/core/op.hpp>

namespace weft::inline v0::io {

namespace fs = std::filesystem;
using detail::MappedFile;

namespace {

struct Pairing {
  std::string_view file;
  DType dtype;
};
constexpr Pairing kPairings[] = {
    {"BOOL", DType::boolean}, {"U8", DType::u8},   {"I8", DType::i8},   {"I16", DType::i16},
    {"I32", DType::i32},      {"I64", DType::i64}, {"F16", DType::f16}, {"BF16", DType::bf16},
    {"F32", DType::f32},      {"F64", DType::f64},
};

DType dtype_of_entry(const std::string& path, const SafetensorsEntry& entry) {
  for (const Pairing& pairing : kPairings)
    if (pairing.file == entry.dtype) return pairing.dtype;
  throw FormatError("E_DTYPE_UNKNOWN", fmt::format("{}: tensor '{}': tensors of dtype {} cannot be "
                                                   "made; convert the file to another dtype",
                                                   path, entry.key, entry.dtype));
}

Shape shape_of_entry(const std::string& path, const SafetensorsEntry& entry) {
  if (entry.shape.size() > static_cast<size_t>(kMaxRank))
    throw FormatError("E_SHAPE", fmt::format("{}: tensor '{}' has {} dims; tensors have at most {}",
                                             path, entry.key, entry.shape.size(), kMaxRank));
  return Shape(entry.shape);
}

}  // namespace

struct SafetensorsFile::Impl {
  std::shared_ptr<const MappedFile> file;
  SafetensorsOptions options;
  detail::SafetensorsHeader header;
  std::unordered_map<std::string_view, size_t> places;
};

SafetensorsFile::SafetensorsFile(const std::string& path, const SafetensorsOptions& options)
    : impl_(std::make_unique<Impl>()) {
  impl_->file = std::make_shared<const MappedFile>(path);
  impl_->options = options;
  const uint64_t size = impl_->file->size();
  if (size < 8)
    throw FormatError("E_HEADER_SIZE",
                      fmt::format("{}: a file of {} bytes cannot hold a header", path, size));
  uint64_t length = 0;
  for (int i = 7; i >= 0; --i)
    length = length << 8 | std::to_integer<uint64_t>(impl_->file->data()[i]);
  if (length > detail::kMaxHeader)
    throw FormatError("E_HEADER_SIZE", fmt::format("{}: the header would be {} bytes, at most {} "
                                                   "are read; this may be another kind of file",
                                                   path, length, detail::kMaxHeader));
  if (length > size - 8)
    throw FormatError("E_HEADER_SIZE",
                      fmt::format("{}: the header would be {} bytes, the file has {} behind its "
                                  "first 8: {} are missing",
                                  path, length, size - 8, length - (size - 8)));
  const std::string_view text(reinterpret_cast<const char*>(impl_->file->data()) + 8, length);
  impl_->header = detail::parse_header(path, text, 8 + length, size, options.lenient);
  const auto& entries = impl_->header.entries;
  for (size_t i = 0; i < entries.size(); ++i) impl_->places.emplace(entries[i].key, i);
}

SafetensorsFile::~SafetensorsFile() = default;
SafetensorsFile::SafetensorsFile(SafetensorsFile&&) noexcept = default;
SafetensorsFile& SafetensorsFile::operator=(SafetensorsFile&&) noexcept = default;

const std::string& SafetensorsFile::path() const { return impl_->file->path(); }
const SafetensorsMetadata& SafetensorsFile::metadata() const { return impl_->header.metadata; }
const std::vector<SafetensorsEntry>& SafetensorsFile::entries() const {
  return impl_->header.entries;
}

std::vector<std::string> SafetensorsFile::keys() const {
  std::vector<std::string> keys;
  for (const SafetensorsEntry& entry : entries()) keys.push_back(entry.key);
  return keys;
}

bool SafetensorsFile::contains(const std::string& key) const { return impl_->places.contains(key); }

const SafetensorsEntry& SafetensorsFile::entry(const std::string& key) const {
  const auto place = impl_->places.find(key);
  if (place == impl_->places.end()) {
    const std::string near = detail::nearest(key, keys());
    detail::fail<ArgumentError>("{}: no tensor '{}'{}", path(), key,
                                near.empty() ? "" : "; did you mean '" + near + "'?");
  }
  return entries()[place->second];
}

Tensor SafetensorsFile::tensor(const std::string& key) const {
  const SafetensorsEntry& wanted = entry(key);
  const DType dtype = dtype_of_entry(path(), wanted);
  const Shape shape = shape_of_entry(path(), wanted);
  const size_t bytes = wanted.end - wanted.begin;
  const bool aligned = wanted.begin % static_cast<uint64_t>(size_of(dtype)) == 0;
  if (impl_->options.map && aligned && bytes > 0)
    return tensor_over(detail::storage_over(impl_->file, wanted.begin, bytes), shape,
                       contiguous_strides(shape), 0, dtype);
  Tensor copy = empty_for("load_safetensors", shape, dtype, Device::cpu());
  if (bytes > 0) impl_->file->read(wanted.begin, copy.impl()->data, bytes);
  return copy;
}

namespace {

StateDict load_file(const std::string& path, const SafetensorsOptions& options) {
  const SafetensorsFile file(path, options);
  StateDict tensors;
  tensors.reserve(file.entries().size());
  for (const SafetensorsEntry& entry : file.entries())
    tensors.emplace_back(entry.key, file.tensor(entry.key));
  return tensors;
}

using Shards = std::unordered_map<std::string, std::unique_ptr<SafetensorsFile>>;

/// Opens every shard that the index names; all that are not there are reported at once.
Shards open_shards(const fs::path& index,
                   const std::vector<std::pair<std::string, std::string>>& map,
                   const SafetensorsOptions& options) {
  Shards shards;
  std::string missing;
  for (const auto& [key, name] : map) {
    const auto [shard, is_new] = shards.try_emplace(name);
    if (!is_new) continue;
    const fs::path path = index.parent_path() / name;
    if (fs::exists(path))
      shard->second = std::make_unique<SafetensorsFile>(path.string(), options);
    else
      missing += (missing.empty() ? "" : ", ") + name;
  }
  if (!missing.empty())
    throw FormatError("E_SHARD_MISSING",
                      fmt::format("{}: these files are missing: {}", index.string(), missing));
  return shards;
}

/// Index and shards must agree: every key where the index says, and in no other shard.
void check_shards(const std::string& index,
                  const std::vector<std::pair<std::string, std::string>>& map,
                  const Shards& shards) {
  std::unordered_map<std::string_view, std::string_view> home;
  for (const auto& [key, name] : map) {
    home.emplace(key, name);
    if (!shards.at(name)->contains(key))
      throw FormatError("E_INDEX_MISMATCH",
                        fmt::format("{}: tensor '{}' is not in {}", index, key, name));
  }
  for (const auto& [name, shard] : shards)
    for (const SafetensorsEntry& entry : shard->entries()) {
      const auto place = home.find(entry.key);
      if (place == home.end())
        logging::warn(fmt::format("{}: tensor '{}' of {} is not in the index; it is left out",
                                  index, entry.key, name));
      else if (place->second != name)
        throw FormatError("E_AMBIGUOUS", fmt::format("{}: tensor '{}' is in {} and in {}", index,
                                                     entry.key, place->second, name));
    }
}

StateDict load_index(const fs::path& index, const SafetensorsOptions& options) {
  const MappedFile file(index.string());
  const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
  const auto map = detail::parse_index(index.string(), text);
  const Shards shards = open_shards(index, map, options);
  check_shards(index.string(), map, shards);
  StateDict tensors;
  for (const auto& [key, name] : map) tensors.emplace_back(key, shards.at(name)->tensor(key));
  return tensors;
}

/// What to read of a folder.
fs::path file_of_folder(const fs::path& folder) {
  if (fs::exists(folder / "model.safetensors")) return folder / "model.safetensors";
  std::vector<std::string> indexes;
  std::string pickled;
  for (const auto& item : fs::directory_iterator(folder)) {
    const std::string name = item.path().filename().string();
    if (name.ends_with(".safetensors.index.json")) indexes.push_back(name);
    if (name.ends_with(".bin") || name.ends_with(".pt") || name.ends_with(".pth")) pickled = name;
  }
  std::sort(indexes.begin(), indexes.end());
  if (indexes.size() > 1)
    throw FormatError("E_AMBIGUOUS", fmt::format("{}: several indexes: {}, {}; name one",
                                                 folder.string(), indexes[0], indexes[1]));
  if (indexes.size() == 1) return folder / indexes[0];
  if (!pickled.empty())
    throw FormatError("E_UNSAFE_FORMAT",
                      fmt::format("{}: {} is a pickle, which can run code and is not read; convert "
                                  "the weights to safetensors",
                                  folder.string(), pickled));
  detail::fail<IoError>("load_safetensors: {} has neither model.safetensors nor an index",
                        folder.string());
}

}  // namespace

StateDict load_safetensors(const std::string& path, const SafetensorsOptions& options) {
  const fs::path file = fs::is_directory(path) ? file_of_folder(path) : fs::path(path);
  return file.extension() == ".json" ? load_index(file, options)
                                     : load_file(file.string(), options);
}

}  // namespace weft::inline v0::io
