// Unix sockets for a store on one host: found by their path, kept from other users.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>

#include <weft/dist/store/clock.hpp>
#include <weft/dist/store/socket.hpp>

namespace weft::inline v0::dist::detail {

inline constexpr std::string_view kLocalScheme = "unix:";

/// Whether `address` is "unix:PATH".
bool is_local(std::string_view address);

/// The path of a "unix:PATH" address. Throws ArgumentError where it is relative, has no folder of
/// its own, or is longer than a socket's name may be.
std::string local_path(std::string_view address);

/// A listening Unix socket, removed with its folder at the end.
class LocalListener {
 public:
  LocalListener() = default;

  /// Makes the folder of `path` where it is missing, removes the sockets of dead processes from it
  /// and listens. Throws IoError where the folder is not this user's alone or somebody listens.
  explicit LocalListener(const std::string& path);
  LocalListener(LocalListener&& other) noexcept = default;
  LocalListener& operator=(LocalListener&& other) noexcept = default;

  Fd take() noexcept { return std::move(fd_); }

  /// Removes the socket, and the folder where nothing else is in it. Does nothing in a process that
  /// was forked off the one that listens. Throws IoError.
  void remove();

 private:
  std::string path_;
  Fd fd_;
  ino_t inode_ = 0;
  pid_t owner_ = -1;
};

/// Connects, or leaves the Fd empty and says why in `error`. Throws CommError where the folder or
/// the process at the other end is another user's.
Fd connect_to_path(const std::string& path, TimePoint deadline, std::string& error);

/// Why the process at the other end of a connected Unix socket is not to be talked to, or nothing.
std::string refuse_peer(int fd);

}  // namespace weft::inline v0::dist::detail
