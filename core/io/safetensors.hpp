// Files of named tensors in the safetensors format: a length, a JSON header, packed little-endian
// data. Format: https://github.com/huggingface/safetensors, "Format".
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <weft/core/io/state_dict.hpp>

namespace weft::inline v0::io {

struct SafetensorsOptions {
  /// Accept what the format's text forbids and its first implementation reads: a key given twice
  /// (the last one counts), spaces before the header's brace.
  bool lenient = false;
  /// Tensors over the mapped file, read-only, without a copy; false: read into fresh memory that
  /// may be written.
  bool map = true;
};

/// One tensor of a file, as its header says.
struct SafetensorsEntry {
  std::string key;
  std::string dtype;           ///< the format's name, such as "BF16"
  std::vector<int64_t> shape;  ///< any rank
  uint64_t begin = 0;          ///< first byte, from the start of the file
  uint64_t end = 0;            ///< behind the last byte
};

using SafetensorsMetadata = std::map<std::string, std::string>;

/// An open file whose header was read and checked; tensors are made on demand.
///
/// The file must not shrink while tensors over it live: reading behind the new end would end the
/// process (SIGBUS). save_safetensors never does that to a file; it puts a new one in its place.
class WEFT_API SafetensorsFile {
 public:
  /// Throws IoError where the file cannot be opened, FormatError for anything wrong with it, with
  /// the codes E_HEADER_SIZE, E_HEADER_UTF8, E_HEADER_JSON, E_DUP_KEY, E_DTYPE_UNKNOWN, E_SHAPE,
  /// E_OFFSET, E_OVERFLOW, E_SIZE, E_TRUNCATED, E_TRAILING.
  explicit SafetensorsFile(const std::string& path, const SafetensorsOptions& options = {});
  ~SafetensorsFile();
  SafetensorsFile(SafetensorsFile&&) noexcept;
  SafetensorsFile& operator=(SafetensorsFile&&) noexcept;

  const std::string& path() const;
  const SafetensorsMetadata& metadata() const;
  /// In the order of the data.
  const std::vector<SafetensorsEntry>& entries() const;
  std::vector<std::string> keys() const;
  bool contains(const std::string& key) const;
  /// Throws ArgumentError, with the nearest key, where the file has no such tensor.
  const SafetensorsEntry& entry(const std::string& key) const;
  /// The tensor on the CPU. Mapped ones keep the file mapped as long as they live; data that is not
  /// aligned to its element size is copied. Throws as entry(), and FormatError where weft has no
  /// such dtype (E_DTYPE_UNKNOWN) or no such rank (E_SHAPE).
  Tensor tensor(const std::string& key) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// All tensors of a file, of a folder (model.safetensors, else the shards of its single
/// *.safetensors.index.json) or of an index file. Throws as SafetensorsFile, and FormatError
/// E_INDEX, E_INDEX_PATH, E_SHARD_MISSING, E_INDEX_MISMATCH, E_AMBIGUOUS or E_UNSAFE_FORMAT.
WEFT_API StateDict load_safetensors(const std::string& path,
                                    const SafetensorsOptions& options = {});

/// Writes the tensors, sorted by dtype and key as the format's own writer does. The file appears
/// under its name only when it is complete and on disk; an older one stays whole until then.
/// Tensors on devices are copied to the host, views are packed, each key gets its own data even
/// where tensors share memory. `metadata` gets "format": "pt" unless it has a format.
/// Throws ArgumentError for a key given twice, a reserved or malformed one, or an empty tensor
/// handle, DeviceError for a meta tensor, IoError for what the system refuses.
WEFT_API void save_safetensors(const std::string& path, const StateDict& tensors,
                               const SafetensorsMetadata& metadata = {});

}  // namespace weft::inline v0::io
