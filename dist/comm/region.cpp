#include <weft/dist/comm/region.hpp>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include <weft/core/base/check.hpp>

namespace weft::inline v0::dist::detail {

namespace {

constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW;

std::byte* map(size_t bytes, int flags, int fd) {
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, fd, 0);
  WEFT_CHECK(OutOfMemory, data != MAP_FAILED, "shared memory: cannot map {} bytes: {}", bytes,
             std::strerror(errno));
  return static_cast<std::byte*>(data);
}

/// In pieces, and as often as it takes: a signal makes the kernel give back what it had so far.
int allocate(int fd, size_t bytes) {
  constexpr size_t kPiece = 64 << 20;
  for (size_t offset = 0; offset < bytes; offset += kPiece) {
    int refused = EINTR;
    while (refused == EINTR)
      refused = posix_fallocate(fd, static_cast<off_t>(offset),
                                static_cast<off_t>(std::min(kPiece, bytes - offset)));
    if (refused != 0) return refused;
  }
  return 0;
}

}  // namespace

Region::Region(std::byte* data, size_t bytes, Fd fd)
    : data_(data), bytes_(bytes), fd_(std::move(fd)) {}

Region::Region(Region&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(other.bytes_), fd_(std::move(other.fd_)) {}

Region::~Region() {
  if (data_ != nullptr) munmap(data_, bytes_);
}

Region Region::anonymous(size_t bytes) {
  return Region(map(bytes, MAP_SHARED | MAP_ANONYMOUS, -1), bytes, Fd());
}

Region Region::create(size_t bytes) {
  // The kernel would hand out pages until it has to kill somebody.
  const size_t host =
      static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGESIZE));
  WEFT_CHECK(OutOfMemory, bytes <= host,
             "shared memory: cannot allocate {} bytes; this host has {} in all", bytes, host);
  Fd fd(memfd_create("weft", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  WEFT_CHECK(OutOfMemory, fd, "shared memory: memfd_create: {}", std::strerror(errno));
  const int refused = allocate(fd.get(), bytes);
  WEFT_CHECK(OutOfMemory, refused == 0, "shared memory: cannot allocate {} bytes: {}", bytes,
             std::strerror(refused));
  WEFT_CHECK(OutOfMemory, fcntl(fd.get(), F_ADD_SEALS, kSeals) == 0,
             "shared memory: cannot seal: {}", std::strerror(errno));
  std::byte* data = map(bytes, MAP_SHARED, fd.get());
  return Region(data, bytes, std::move(fd));
}

Region Region::attach(Fd fd, size_t bytes) {
  struct stat status = {};
  WEFT_CHECK(CommError,
             fstat(fd.get(), &status) == 0 && static_cast<size_t>(status.st_size) >= bytes &&
                 (fcntl(fd.get(), F_GET_SEALS) & kSeals) == kSeals,
             "shared memory: a peer sent a file that is no sealed region of {} bytes", bytes);
  return Region(map(bytes, MAP_SHARED, fd.get()), bytes, Fd());
}

}  // namespace weft::inline v0::dist::detail
