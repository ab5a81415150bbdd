// Memory that several ranks map.
#pragma once

#include <cstddef>

#include <weft/dist/store/socket.hpp>

namespace weft::inline v0::dist::detail {

/// A mapping shared with other processes (a sealed memfd) or with the threads of this one. It has
/// no name: when the last process that maps it ends, however it ends, the memory is gone.
class Region {
 public:
  /// Zeroed memory for threads of this process. Throws OutOfMemory.
  static Region anonymous(size_t bytes);

  /// Zeroed memory in a memfd, allocated up front and sealed against changes of its size: a
  /// missing page would otherwise be a SIGBUS in the middle of a collective. Throws OutOfMemory.
  static Region create(size_t bytes);

  /// Maps another process's region. Throws CommError where it is shorter than `bytes` or not
  /// sealed.
  static Region attach(Fd fd, size_t bytes);

  Region(Region&& other) noexcept;
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;
  ~Region();

  std::byte* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  int fd() const { return fd_.get(); }

  /// The mapping needs none once all have it, and descriptors are few.
  void close_fd() { fd_.reset(); }

 private:
  Region(std::byte* data, size_t bytes, Fd fd);

  std::byte* data_;
  size_t bytes_;
  Fd fd_;
};

}  // namespace weft::inline v0::dist::detail
