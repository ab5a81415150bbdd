#include <weft/dist/store/local_socket.hpp>

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <string>

#include <weft/core/base/check.hpp>
#include <weft/dist/store/auth.hpp>
#include <weft/dist/store/tcp_store.hpp>

namespace weft::inline v0::dist {

namespace detail {

using weft::detail::fail;

namespace {

constexpr std::string_view kSocketPrefix = "store-";
constexpr double kLockTimeout = 10.0;  // seconds; the lock is held for a few system calls

std::string folder_of(const std::string& path) { return path.substr(0, path.rfind('/')); }
std::string name_of(const std::string& path) { return path.substr(path.rfind('/') + 1); }

/// Throws unless the folder that `fd` is open on belongs to this user and to nobody else.
template <class E>
void check_folder(const std::string& folder, const struct stat& info) {
  WEFT_CHECK(E, S_ISDIR(info.st_mode), "store: {} is no folder; remove it", folder);
  WEFT_CHECK(E, info.st_uid == geteuid() && (info.st_mode & 07777) == 0700,
             "store: the folder {} belongs to user {} with mode {:o}; it has to belong to user {} "
             "with mode 700, or others could stand in for the job: remove it",
             folder, info.st_uid, info.st_mode & 07777, geteuid());
}

sockaddr_un socket_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  return address;
}

int connect_once(int fd, const std::string& path) {
  const sockaddr_un address = socket_address(path);
  const int done = ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
  return done == 0 ? 0 : errno;
}

// Note [Store sockets of dead processes]
// A process that is killed leaves its socket's name behind, so whoever uses the folder next has to
// tell dead names from live ones: nobody listens behind a name whose connect is refused. That is
// also true between another process's bind and its listen, and two processes that clear up the same
// name could remove the new socket of a third. Hence names come and go only under a lock on the
// folder. The folder itself goes with its last name: a process that waited for the lock of a folder
// that is gone by then finds out by comparing inodes, and starts again.

/// The folder, open and locked; nothing where it is gone and not to be made.
Fd lock_folder(const std::string& folder, bool make) {
  const TimePoint deadline = deadline_after(kLockTimeout);
  for (;;) {
    if (make && ::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST)
      fail<IoError>("store: cannot make the folder {}: {}", folder, std::strerror(errno));
    Fd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!fd) {
      if (errno != ENOENT)
        fail<IoError>("store: cannot open the folder {}: {}", folder, std::strerror(errno));
      if (!make) return fd;
      WEFT_CHECK(IoError, Clock::now() < deadline, "store: the folder {} vanishes again and again",
                 folder);
      continue;
    }
    struct stat info {};
    if (::fstat(fd.get(), &info) != 0)
      fail<IoError>("store: fstat of {}: {}", folder, std::strerror(errno));
    check_folder<IoError>(folder, info);
    while (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK && errno != EINTR)
        fail<IoError>("store: cannot lock the folder {}: {}", folder, std::strerror(errno));
      WEFT_CHECK(IoError, Clock::now() < deadline,
                 "store: the folder {} is locked by another process for more than {} s; is one of "
                 "this user's jobs stopped (state T)?",
                 folder, kLockTimeout);
      ::poll(nullptr, 0, 5);
    }
    struct stat named {};
    if (::lstat(folder.c_str(), &named) == 0 && named.st_ino == info.st_ino &&
        named.st_dev == info.st_dev)
      return fd;
  }
}

bool is_dead(const std::string& path) {
  const Fd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  return probe && connect_once(probe.get(), path) == ECONNREFUSED;
}

/// Removes the sockets that nobody listens behind; the folder's lock is the caller's.
void remove_dead(int folder_fd, const std::string& folder) {
  const int copy = ::openat(folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  struct Close {
    void operator()(DIR* list) const { ::closedir(list); }
  };
  const std::unique_ptr<DIR, Close> list(copy < 0 ? nullptr : ::fdopendir(copy));
  if (!list) fail<IoError>("store: cannot list the folder {}: {}", folder, std::strerror(errno));
  while (const dirent* entry = ::readdir(list.get())) {
    struct stat info {};
    if (!std::string_view(entry->d_name).starts_with(kSocketPrefix) ||
        ::fstatat(folder_fd, entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0 ||
        !S_ISSOCK(info.st_mode) || !is_dead(folder + "/" + entry->d_name))
      continue;
    if (::unlinkat(folder_fd, entry->d_name, 0) != 0 && errno != ENOENT)
      fail<IoError>("store: cannot remove the dead socket {}/{}: {}", folder, entry->d_name,
                    std::strerror(errno));
  }
}

}  // namespace

bool is_local(std::string_view address) { return address.starts_with(kLocalScheme); }

std::string local_path(std::string_view address) {
  const std::string path(address.substr(kLocalScheme.size()));
  const size_t longest = sizeof(sockaddr_un::sun_path) - 1;
  WEFT_CHECK(ArgumentError,
             path.starts_with('/') && path.rfind('/') > 0 && !path.ends_with('/') &&
                 path.find('\0') == std::string::npos && path.size() <= longest,
             "store: '{}' names no socket; write unix:/FOLDER/NAME with a folder that is the "
             "store's own and at most {} characters in all",
             address, longest);
  return path;
}

LocalListener::LocalListener(const std::string& path) : path_(path), owner_(::getpid()) {
  const std::string folder = folder_of(path);
  const Fd lock = lock_folder(folder, true);
  remove_dead(lock.get(), folder);
  fd_ = Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const sockaddr_un address = socket_address(path);
  if (!fd_ || ::bind(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    WEFT_CHECK(IoError, errno != EADDRINUSE,
               "store: another process serves {}; was rank 0 of this job started twice, or does a "
               "job of the same id run on this host?",
               path);
    fail<IoError>("store: cannot listen on {}: {}", path, std::strerror(errno));
  }
  struct stat info {};
  if (::listen(fd_.get(), 1024) != 0 || ::lstat(path.c_str(), &info) != 0) {
    const int code = errno;
    ::unlink(path.c_str());
    fail<IoError>("store: cannot listen on {}: {}", path, std::strerror(code));
  }
  inode_ = info.st_ino;
}

void LocalListener::remove() {
  if (std::exchange(owner_, -1) != ::getpid()) return;
  const std::string folder = folder_of(path_);
  const Fd lock = lock_folder(folder, false);
  if (!lock) return;
  struct stat info {};
  const std::string name = name_of(path_);
  const bool ours =
      ::fstatat(lock.get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0 && info.st_ino == inode_;
  if (ours && ::unlinkat(lock.get(), name.c_str(), 0) != 0)
    fail<IoError>("store: cannot remove the socket {}: {}", path_, std::strerror(errno));
  if (::rmdir(folder.c_str()) != 0 && errno != ENOTEMPTY && errno != EEXIST && errno != ENOENT)
    fail<IoError>("store: cannot remove the folder {}: {}", folder, std::strerror(errno));
}

Fd connect_to_path(const std::string& path, TimePoint deadline, std::string& error) {
  const std::string folder = folder_of(path);
  struct stat info {};
  if (::lstat(folder.c_str(), &info) != 0) {
    error = fmt::format("the folder {}: {}", folder, std::strerror(errno));
    return {};
  }
  check_folder<CommError>(folder, info);
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  int code = fd ? connect_once(fd.get(), path) : errno;
  // The line of connections that are not accepted yet is full.
  while (code == EAGAIN && Clock::now() < deadline) {
    ::poll(nullptr, 0, 2);
    code = connect_once(fd.get(), path);
  }
  if (code != 0) {
    error = std::strerror(code);
    return {};
  }
  const std::string refusal = refuse_peer(fd.get());
  WEFT_CHECK(CommError, refusal.empty(), "store: {} is served by a stranger: {}", path, refusal);
  return fd;
}

std::string refuse_peer(int fd) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
    return fmt::format("its user is not known: {}", std::strerror(errno));
  if (peer.uid == geteuid()) return {};
  return fmt::format("it is user {}, not {}", peer.uid, geteuid());
}

}  // namespace detail

std::string local_store_address(std::string_view job_id) {
  WEFT_CHECK(ArgumentError, !job_id.empty(), "store: the job's id is empty");
  const std::string name = detail::to_hex(detail::hmac_sha256("weft job", {job_id}).substr(0, 12));
  return fmt::format("unix:/tmp/weft-{}/store-{}", geteuid(), name);
}

}  // namespace weft::inline v0::dist
