#include <weft/dist/comm/region.hpp>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>
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

/// Bytes that this host can still give out, as far as the kernel says.
size_t available_memory() {
  std::ifstream file("/proc/meminfo");
  for (std::string line; std::getline(file, line);) {
    unsigned long long kilobytes = 0;
    if (std::sscanf(line.c_str(), "MemAvailable: %llu kB", &kilobytes) == 1)
      return static_cast<size_t>(kilobytes) * 1024;
  }
  struct sysinfo info = {};
  return sysinfo(&info) == 0 ? static_cast<size_t>(info.totalram) * info.mem_unit : SIZE_MAX;
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
  Fd fd(memfd_create("weft", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  WEFT_CHECK(OutOfMemory, fd, "shared memory: memfd_create: {}", std::strerror(errno));
  // A memfd has no limit of its own: asked for more than there is, the kernel would hand out all of
  // it, and then start to kill.
  const int refused =
      bytes > available_memory() ? ENOMEM : posix_fallocate(fd.get(), 0, static_cast<off_t>(bytes));
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
  std::byte* data = map(bytes, MAP_SHARED, fd.get());
  return Region(data, bytes, std::move(fd));
}

}  // namespace weft::inline v0::dist::detail
