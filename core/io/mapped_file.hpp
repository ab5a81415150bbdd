// A file in the address space, read-only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include <weft/core/storage.hpp>

namespace weft::inline v0::detail {

/// Maps a whole regular file privately and keeps it open for plain reads.
class MappedFile {
 public:
  /// Throws IoError naming the path and the system's reason.
  explicit MappedFile(std::string path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  uint64_t size() const { return size_; }
  /// Null where the file is empty.
  const std::byte* data() const { return data_; }
  /// Copies bytes with pread, which reports a file that shrank as an IoError.
  void read(uint64_t offset, void* out, size_t bytes) const;

 private:
  std::string path_;
  int file_ = -1;
  uint64_t size_ = 0;
  const std::byte* data_ = nullptr;
};

/// Read-only CPU memory over part of the mapping, which lives as long as the storage.
Storage storage_over(const std::shared_ptr<const MappedFile>& file, uint64_t offset, size_t bytes);

}  // namespace weft::inline v0::detail
