#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <unordered_set>

#include <weft/core/base/check.hpp>
#include <weft/core/io/safetensors.hpp>
#include <weft/core/io/safetensors_json.hpp>

namespace weft::inline v0::io {

namespace {

/// A new file beside its destination that takes the name when all of it is on disk.
class PendingFile {
 public:
  explicit PendingFile(std::filesystem::path destination)
      : destination_(std::move(destination)), folder_(destination_.parent_path()) {
    if (folder_.empty()) folder_ = ".";
    for (int attempt = 0; file_ < 0; ++attempt) {
      path_ = folder_ /
              fmt::format(".{}.{}.{}.tmp", destination_.filename().string(), ::getpid(), attempt);
      file_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
      if (file_ < 0 && errno != EEXIST) refused("create", path_);
    }
  }
  ~PendingFile() {
    if (file_ >= 0) ::close(file_);
    if (!done_) ::unlink(path_.c_str());
  }
  PendingFile(const PendingFile&) = delete;
  PendingFile& operator=(const PendingFile&) = delete;

  void write(const void* data, size_t bytes) {
    const auto* from = static_cast<const char*>(data);
    while (bytes > 0) {
      const ssize_t put = ::write(file_, from, bytes);
      if (put < 0 && errno == EINTR) continue;
      if (put < 0) refused("write", path_);
      from += put;
      bytes -= static_cast<size_t>(put);
    }
  }

  void commit() {
    if (::fsync(file_) != 0) refused("write", path_);
    if (::rename(path_.c_str(), destination_.c_str()) != 0) refused("create", destination_);
    done_ = true;
    const int folder = ::open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) refused("open", folder_);
    const int error = ::fsync(folder) != 0 ? errno : 0;
    ::close(folder);
    // Some file systems cannot sync a folder; the rename is as durable there as it gets.
    if (error != 0 && error != EINVAL) {
      errno = error;
      refused("write", folder_);
    }
  }

 private:
  [[noreturn]] static void refused(const char* what, const std::filesystem::path& path) {
    const char* const reason = std::strerror(errno);
    detail::fail<IoError>("save_safetensors: cannot {} {}: {}", what, path.string(), reason);
  }

  std::filesystem::path destination_, folder_, path_;
  int file_ = -1;
  bool done_ = false;
};

const char* file_dtype(DType dtype) {
  switch (dtype) {
    case DType::boolean: return "BOOL";
    case DType::u8: return "U8";
    case DType::i8: return "I8";
    case DType::i16: return "I16";
    case DType::i32: return "I32";
    case DType::i64: return "I64";
    case DType::f16: return "F16";
    case DType::bf16: return "BF16";
    case DType::f32: return "F32";
    case DType::f64: return "F64";
  }
  detail::fail<ArgumentError>("save_safetensors: dtype {} has no name in the format",
                              static_cast<int>(dtype));
}

void check_tensors(const std::string& path, const StateDict& tensors) {
  std::unordered_set<std::string_view> seen;
  for (const auto& [key, tensor] : tensors) {
    WEFT_CHECK(ArgumentError, detail::is_utf8(key),
               "save_safetensors: {}: a key is not valid UTF-8", path);
    WEFT_CHECK(ArgumentError, key != "__metadata__",
               "save_safetensors: {}: the key '__metadata__' is reserved; rename the tensor", path);
    WEFT_CHECK(ArgumentError, seen.insert(key).second,
               "save_safetensors: {}: the key '{}' is given twice", path, key);
    WEFT_CHECK(ArgumentError, tensor.defined(), "save_safetensors: {}: tensor '{}' is empty", path,
               key);
    WEFT_CHECK(DeviceError, !tensor.device().is_meta(),
               "save_safetensors: {}: tensor '{}' of shape {} is on meta and has no values; "
               "materialise the model first",
               path, key, to_string(tensor.shape()));
  }
}

/// Holds evictable memory in place while it is written.
class Pin {
 public:
  explicit Pin(const Storage& storage) : storage_(storage) { storage_.pin(); }
  ~Pin() { storage_.unpin(); }
  Pin(const Pin&) = delete;
  Pin& operator=(const Pin&) = delete;

 private:
  Storage storage_;
};

void write_tensor(PendingFile& file, const Tensor& tensor) {
  if (tensor.numel() == 0) return;
  const Pin pin(tensor.storage());
  const Tensor packed = tensor.detach().contiguous().cpu();
  const std::byte* const data =
      packed.storage()->data + packed.storage_offset() * size_of(packed.dtype());
  file.write(data, static_cast<size_t>(packed.nbytes()));
}

}  // namespace

void save_safetensors(const std::string& path, const StateDict& tensors,
                      const SafetensorsMetadata& metadata) {
  check_tensors(path, tensors);
  SafetensorsMetadata all_metadata = metadata;
  all_metadata.try_emplace("format", "pt");
  for (const auto& [key, text] : all_metadata)
    WEFT_CHECK(ArgumentError, detail::is_utf8(key) && detail::is_utf8(text),
               "save_safetensors: {}: a metadata text is not valid UTF-8", path);

  // Wide elements first, so that each tensor is aligned to its element size.
  std::vector<size_t> order(tensors.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  const auto rank = [&](size_t i) {
    return detail::rank_of(*detail::find_file_dtype(file_dtype(tensors[i].second.dtype())));
  };
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return rank(a) != rank(b) ? rank(a) > rank(b) : tensors[a].first < tensors[b].first;
  });
  std::vector<SafetensorsEntry> entries;
  uint64_t offset = 0;
  for (const size_t i : order) {
    const auto& [key, tensor] = tensors[i];
    const uint64_t end = offset + static_cast<uint64_t>(tensor.nbytes());
    entries.push_back({key,
                       file_dtype(tensor.dtype()),
                       {tensor.shape().begin(), tensor.shape().end()},
                       offset,
                       end});
    offset = end;
  }
  const std::string header = detail::format_header(entries, all_metadata);
  WEFT_CHECK(ArgumentError, header.size() <= detail::kMaxHeader,
             "save_safetensors: {}: the header takes {} bytes, readers accept {}; write fewer "
             "tensors per file",
             path, header.size(), detail::kMaxHeader);

  PendingFile file(path);
  unsigned char length[8];
  for (int i = 0; i < 8; ++i) length[i] = static_cast<unsigned char>(header.size() >> (8 * i));
  file.write(length, sizeof(length));
  file.write(header.data(), header.size());
  for (const size_t i : order) write_tensor(file, tensors[i].second);
  file.commit();
}

}  // namespace weft::inline v0::io
