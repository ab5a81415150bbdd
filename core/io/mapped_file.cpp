#include <weft/core/io/mapped_file.hpp>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include <weft/core/base/check.hpp>

namespace weft::inline v0::detail {

namespace {

using Keeper = std::shared_ptr<const MappedFile>;

void release_mapping(StorageImpl& impl) noexcept { delete static_cast<Keeper*>(impl.context); }

}  // namespace

MappedFile::MappedFile(std::string path) : path_(std::move(path)) {
  file_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  WEFT_CHECK(IoError, file_ >= 0, "open: {}: {}", path_, std::strerror(errno));
  struct stat status = {};
  int error = ::fstat(file_, &status) != 0 ? errno : 0;
  if (error == 0 && !S_ISREG(status.st_mode)) error = S_ISDIR(status.st_mode) ? EISDIR : EINVAL;
  if (error == 0 && status.st_size > 0) {
    size_ = static_cast<uint64_t>(status.st_size);
    void* const data = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file_, 0);
    if (data == MAP_FAILED)
      error = errno;
    else
      data_ = static_cast<const std::byte*>(data);
  }
  if (error == 0) return;
  ::close(file_);
  fail<IoError>("open: {}: {}", path_, std::strerror(error));
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
  ::close(file_);
}

void MappedFile::read(uint64_t offset, void* out, size_t bytes) const {
  auto* to = static_cast<std::byte*>(out);
  while (bytes > 0) {
    const ssize_t got = ::pread(file_, to, bytes, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    WEFT_CHECK(IoError, got >= 0, "read: {}: {}", path_, std::strerror(errno));
    WEFT_CHECK(IoError, got > 0, "read: {}: the file ends at byte {}; it had {} when it was opened",
               path_, offset, size_);
    to += got;
    offset += static_cast<uint64_t>(got);
    bytes -= static_cast<size_t>(got);
  }
}

Storage storage_over(const Keeper& file, uint64_t offset, size_t bytes) {
  auto keeper = std::make_unique<Keeper>(file);
  auto* const data = const_cast<std::byte*>(file->data()) + offset;
  Storage storage =
      Storage::wrap(data, bytes, Device::cpu(), kReadOnly, release_mapping, keeper.get());
  keeper.release();  // the storage owns it now
  return storage;
}

}  // namespace weft::inline v0::detail
