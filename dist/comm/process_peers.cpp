// Ranks that are processes of one host.
//
// Note [Joining on one host]
// Rank 0 listens on a Unix socket with an automatic abstract address (no file, gone with the
// process), which it publishes in the store with a nonce. The others connect, both sides check that
// the peer runs as the same user, and rank 0 opens a pidfd of each while it is connected, so that
// no reused pid can be meant. All pidfds go to all ranks. The sockets stay: memory is shared by
// sending a memfd over them.
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <functional>
#include <span>
#include <utility>

#include <weft/core/base/check.hpp>
#include <weft/dist/comm/layout.hpp>
#include <weft/dist/comm/peers.hpp>

namespace weft::inline v0::dist::detail {

using weft::detail::fail;

namespace {

// What each message begins with: one of another kind shows that one got lost.
constexpr uint64_t kHello = 0x6f6c656874666577u;    // "wefthelo"
constexpr uint64_t kWelcome = 0x6d6f636c74666577u;  // "weftlcom"
constexpr uint64_t kOffer = 0x7265666f74666577u;    // "weftofer"
constexpr int kMaxRanks = 250;                      // the kernel passes 253 descriptors at once

constexpr double kSlice = 0.1;  // seconds between looks at who is gone

struct Hello {
  uint64_t magic;
  int64_t rank;
  uint64_t nonce;
};

struct Offer {
  uint64_t magic;
  uint64_t bytes;
  char refusal[112];  ///< why there is no descriptor
};

struct Message {
  IoResult result = IoResult::done;
  std::vector<Fd> fds;
  bool lacks_fds = false;  ///< this process had no room for all of them
};

/// False, with errno, where the message did not go. A peer that is gone is noticed, with its rank,
/// by the next wait for it.
bool send_message(int socket, const void* data, size_t bytes, std::span<const int> fds,
                  TimePoint deadline) {
  iovec piece{const_cast<void*>(data), bytes};
  msghdr header{};
  header.msg_iov = &piece;
  header.msg_iovlen = 1;
  std::vector<char> control(CMSG_SPACE(sizeof(int) * fds.size()));
  if (!fds.empty()) {
    header.msg_control = control.data();
    header.msg_controllen = control.size();
    cmsghdr* part = CMSG_FIRSTHDR(&header);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
    std::memcpy(CMSG_DATA(part), fds.data(), sizeof(int) * fds.size());
  }
  while (sendmsg(socket, &header, MSG_NOSIGNAL) < 0) {
    if (errno == EPIPE || errno == ECONNRESET) return true;
    // A user without privileges has no more descriptors under way than one process may have open:
    // the receivers, of this job and of others, make room.
    const bool may_pass = errno == ETOOMANYREFS || errno == ENOBUFS || errno == ENOMEM;
    if (errno != EINTR && (!may_pass || Clock::now() >= deadline)) return false;
    if (may_pass) poll(nullptr, 0, 1);
  }
  return true;
}

Message receive_message(int socket, void* data, size_t bytes) {
  Message message;
  iovec piece{data, bytes};
  std::vector<char> control(CMSG_SPACE(sizeof(int) * kMaxRanks));
  msghdr header{};
  header.msg_iov = &piece;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  ssize_t got = 0;
  while ((got = recvmsg(socket, &header, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR) {
  }
  for (cmsghdr* part = CMSG_FIRSTHDR(&header); got >= 0 && part != nullptr;
       part = CMSG_NXTHDR(&header, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
      message.fds.emplace_back(fd);
    }
  }
  message.lacks_fds = got >= 0 && (header.msg_flags & MSG_CTRUNC) != 0;
  if (got != static_cast<ssize_t>(bytes)) message.result = IoResult::closed;
  return message;
}

ucred credentials(int socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
    peer.uid = static_cast<uid_t>(-1);
  return peer;
}

Fd open_pid(pid_t pid, const std::string& name) {
  Fd fd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  WEFT_CHECK(CommError, fd, "group '{}': pidfd_open of pid {}: {}", name, pid,
             std::strerror(errno));
  return fd;
}

class ProcessPeers final : public Peers {
 public:
  ProcessPeers(std::shared_ptr<Store> store, std::string name, int rank, int size,
               TimePoint deadline, std::vector<int> labels = {}, const std::string& whole = "",
               std::function<void()> check = nullptr)
      : store_(std::move(store)),
        name_(std::move(name)),
        title_(name_.substr(0, name_.find('@'))),
        whole_(whole.empty() ? title_ : whole),
        rank_(rank),
        size_(size),
        labels_(std::move(labels)),
        check_(std::move(check)) {
    WEFT_CHECK(CommError, size <= kMaxRanks, "group '{}': {} ranks on one host; at most {} work",
               title_, size, kMaxRanks);
    if (rank == 0)
      host(deadline);
    else
      join(deadline);
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  std::shared_ptr<Region> share(size_t bytes, TimePoint deadline) override {
    return rank_ == 0 ? offer(bytes, deadline) : accept_offer(bytes, deadline);
  }

  void set_check(std::function<void()> check) override { check_ = std::move(check); }

  std::optional<std::string> gone(int rank) override {
    pollfd watched{pidfds_[static_cast<size_t>(rank)].get(), POLLIN, 0};
    // Other events than this one tell of the descriptor: the program has closed what is not its
    // own.
    if (poll(&watched, 1, 0) > 0 && (watched.revents & POLLIN) != 0) return "is gone";
    return std::nullopt;
  }

  std::unique_ptr<Peers> subset(const std::string& name, const std::vector<int>& members,
                                TimePoint deadline) override {
    const auto self = std::find(members.begin(), members.end(), rank_);
    std::vector<int> labels;
    for (const int member : members) labels.push_back(label(member));
    return std::make_unique<ProcessPeers>(store_, name, static_cast<int>(self - members.begin()),
                                          static_cast<int>(members.size()), deadline,
                                          std::move(labels), whole_,
                                          [this, title = name.substr(0, name.find('@')), members] {
                                            if (check_) check_();
                                            for (const int member : members)
                                              check_life(member, title);
                                          });
  }

 private:
  void host(TimePoint deadline) {
    Fd listener(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    socklen_t length = sizeof address.sun_family;  // no more than this: an automatic address
    const bool listening =
        listener && bind(listener.get(), reinterpret_cast<sockaddr*>(&address), length) == 0 &&
        listen(listener.get(), size_) == 0;
    length = sizeof address;
    WEFT_CHECK(CommError,
               listening &&
                   getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &length) == 0,
               "group '{}': cannot listen on a Unix socket: {}", title_, std::strerror(errno));
    uint64_t nonce = 0;
    WEFT_CHECK(CommError, getentropy(&nonce, sizeof nonce) == 0, "group '{}': getentropy: {}",
               title_, std::strerror(errno));
    std::string published(reinterpret_cast<const char*>(&nonce), sizeof nonce);
    published.append(reinterpret_cast<const char*>(&address), length);
    store_->set(key(), published);

    sockets_.resize(static_cast<size_t>(size_));
    pidfds_.resize(static_cast<size_t>(size_));
    pidfds_[0] = open_pid(getpid(), title_);
    for (int joined = 1; joined < size_;)
      if (admit(listener.get(), nonce, deadline)) ++joined;
    std::vector<int> fds;
    for (const Fd& fd : pidfds_) fds.push_back(fd.get());
    const Offer welcome{kWelcome, fds.size(), {}};
    for (int peer = 1; peer < size_; ++peer) send(peer, welcome, fds, deadline);
    store_->delete_key(key());
  }

  bool admit(int listener, uint64_t nonce, TimePoint deadline) {
    if (!wait(listener, deadline))
      fail<TimeoutError>(
          "group '{}': of {} ranks{}, {} did not join in time; start all of them, or raise {}",
          title_, size_, name_ == title_ ? "" : " on this host", list_missing(),
          check_ ? "WEFT_COLLECTIVE_TIMEOUT" : "WEFT_JOIN_TIMEOUT");
    Fd socket(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
    if (!socket) {
      WEFT_CHECK(CommError, errno != EMFILE && errno != ENFILE,
                 "group '{}': cannot accept the other ranks: {}; raise ulimit -n", title_,
                 std::strerror(errno));
      return false;
    }
    const ucred peer = credentials(socket.get());
    if (peer.uid != geteuid()) return false;
    Hello hello{};
    const Message message = receive(socket.get(), &hello, sizeof hello, deadline);
    if (message.result != IoResult::done || hello.magic != kHello || hello.nonce != nonce)
      return false;
    WEFT_CHECK(CommError, hello.rank > 0 && hello.rank < size_,
               "group '{}': a process (pid {}) joins as number {} of {} on this host", title_,
               peer.pid, hello.rank, size_);
    Fd& place = sockets_[static_cast<size_t>(hello.rank)];
    WEFT_CHECK(CommError, !place, "group '{}': two processes join as {}; each needs its own",
               title_, who(static_cast<int>(hello.rank)));
    place = std::move(socket);
    pidfds_[static_cast<size_t>(hello.rank)] = open_pid(peer.pid, title_);
    return true;
  }

  void join(TimePoint deadline) {
    const std::string published = published_address(deadline);
    uint64_t nonce = 0;
    sockaddr_un address{};
    WEFT_CHECK(CommError,
               published.size() > sizeof nonce && published.size() <= sizeof nonce + sizeof address,
               "group '{}': the store's entry of {} is malformed", title_, who(0));
    std::memcpy(&nonce, published.data(), sizeof nonce);
    const size_t length = published.size() - sizeof nonce;
    std::memcpy(&address, published.data() + sizeof nonce, length);
    sockets_.emplace_back(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    const int socket = sockets_[0].get();
    WEFT_CHECK(
        CommError,
        connect(socket, reinterpret_cast<sockaddr*>(&address), static_cast<socklen_t>(length)) == 0,
        "group '{}': {} cannot reach {} on this host: {}", title_, who(rank_), who(0),
        std::strerror(errno));
    WEFT_CHECK(CommError, credentials(socket).uid == geteuid(),
               "group '{}': {} runs as another user", title_, who(0));
    const Hello hello{kHello, rank_, nonce};
    WEFT_CHECK(CommError, send_message(socket, &hello, sizeof hello, {}, deadline),
               "group '{}': {} cannot send to {} on this host: {}", title_, who(rank_), who(0),
               std::strerror(errno));
    Offer welcome{};
    Message message = receive(socket, &welcome, sizeof welcome, deadline);
    check_answer(message.result);
    WEFT_CHECK(CommError, !message.lacks_fds,
               "group '{}': {} has no room for the descriptors of {} ranks; raise ulimit -n",
               title_, who(rank_), size_);
    WEFT_CHECK(CommError,
               welcome.magic == kWelcome && message.fds.size() == static_cast<size_t>(size_),
               "group '{}': {} answered for {} ranks, this one expects {}", title_, who(0),
               welcome.bytes, size_);
    pidfds_ = std::move(message.fds);
  }

  std::shared_ptr<Region> offer(size_t bytes, TimePoint deadline) {
    Offer offer{kOffer, bytes, {}};
    try {
      auto region = std::make_shared<Region>(Region::create(bytes));
      const int fd = region->fd();
      for (int peer = 1; peer < size_; ++peer) send(peer, offer, {&fd, 1}, deadline);
      region->close_fd();
      return region;
    } catch (const OutOfMemory& error) {
      std::strncpy(offer.refusal, error.what(), sizeof offer.refusal - 1);
      for (int peer = 1; peer < size_; ++peer) send(peer, offer, {}, deadline);
      throw;
    }
  }

  std::shared_ptr<Region> accept_offer(size_t bytes, TimePoint deadline) {
    Offer offer{};
    Message message = receive(sockets_[0].get(), &offer, sizeof offer, deadline);
    check_answer(message.result);
    WEFT_CHECK(OutOfMemory, !message.lacks_fds,
               "group '{}': {} has no room for the descriptor of shared memory; raise ulimit -n",
               title_, who(rank_));
    offer.refusal[sizeof offer.refusal - 1] = '\0';
    if (offer.magic == kOffer && message.fds.empty()) throw OutOfMemory(offer.refusal);
    WEFT_CHECK(CommError, offer.magic == kOffer && offer.bytes == bytes && message.fds.size() == 1,
               "group '{}': {} shares {} bytes, this rank expects {}", title_, who(0), offer.bytes,
               bytes);
    return std::make_shared<Region>(Region::attach(std::move(message.fds[0]), bytes));
  }

  void check_answer(IoResult result) const {
    if (result == IoResult::timed_out)
      fail<TimeoutError>("group '{}': {} did not answer {} in time; ranks may be missing", title_,
                         who(0), who(rank_));
    if (result == IoResult::closed)
      throw PeerLost(label(0), fmt::format("group '{}': {} closed the connection to {}", title_,
                                           who(0), who(rank_)));
  }

  void send(int peer, const Offer& message, std::span<const int> fds, TimePoint deadline) const {
    const int socket = sockets_[static_cast<size_t>(peer)].get();
    WEFT_CHECK(CommError, send_message(socket, &message, sizeof message, fds, deadline),
               "group '{}': cannot pass {} descriptors to {}: {}; raise ulimit -n", title_,
               fds.size(), who(peer), std::strerror(errno));
  }

  /// Looks, between slices of the wait, whether there is anything left to wait for.
  bool wait(int fd, TimePoint deadline) {
    while (!wait_ready(fd, POLLIN, std::min(deadline, deadline_after(kSlice)))) {
      if (Clock::now() >= deadline) return false;
      look();
    }
    return true;
  }

  void look() {
    if (check_) check_();
    // Only rank 0 waits for more than one; that it is gone itself shows on its connections.
    for (int rank = 1; rank_ == 0 && rank < size_; ++rank) check_life(rank, title_);
  }

  /// `title`: of the group that is being joined, where it is not this one.
  void check_life(int rank, const std::string& title) {
    if (!pidfds_[static_cast<size_t>(rank)] || !gone(rank)) return;
    const std::string of = is_whole() && title == title_ ? "" : of_whole();
    throw PeerLost(label(rank),
                   fmt::format("group '{}': rank {}{} is gone", title, label(rank), of));
  }

  Message receive(int socket, void* data, size_t bytes, TimePoint deadline) {
    if (!wait(socket, deadline)) return {IoResult::timed_out, {}};
    return receive_message(socket, data, bytes);
  }

  std::string published_address(TimePoint deadline) {
    while (true) try {
        const double left = std::max(0.0, -seconds_since(deadline));
        return store_->get(key(), check_ ? std::min(left, kSlice) : left);
      } catch (const TimeoutError&) {
        if (Clock::now() >= deadline) check_answer(IoResult::timed_out);
        if (check_) look();
      }
  }

  std::string list_missing() const {
    std::vector<int> missing;
    for (int rank = 1; rank < size_; ++rank)
      if (!sockets_[static_cast<size_t>(rank)]) missing.push_back(label(rank));
    return list_ranks(missing) + (is_whole() ? "" : of_whole());
  }

  // Errors name ranks by their numbers in the whole job, whatever group is being joined, and say so
  // where these may be others than the group's own.
  bool is_whole() const { return title_ == whole_; }
  std::string of_whole() const { return fmt::format(" of group '{}'", whole_); }
  std::string who(int rank) const {
    return fmt::format("rank {}{}", label(rank), is_whole() ? "" : of_whole());
  }

  int label(int rank) const { return labels_.empty() ? rank : labels_[static_cast<size_t>(rank)]; }

  std::string key() const { return "group/" + name_; }

  std::shared_ptr<Store> store_;
  std::string name_;
  std::string title_;  ///< the name without what tells the parts of a group on its hosts apart
  std::string whole_;  ///< the group whose numbers the labels are
  int rank_, size_;
  std::vector<int> labels_;      ///< the ranks as errors name them; none: 0, 1, …
  std::function<void()> check_;  ///< of the own group; until it is there, of the one it comes from
  std::vector<Fd> sockets_;      ///< rank 0: to each other rank; others: to rank 0
  std::vector<Fd> pidfds_;
};

}  // namespace

std::unique_ptr<Peers> join_processes(std::shared_ptr<Store> store, const std::string& name,
                                      int rank, int size, TimePoint deadline,
                                      const std::vector<int>& labels) {
  return std::make_unique<ProcessPeers>(std::move(store), name, rank, size, deadline, labels);
}

}  // namespace weft::inline v0::dist::detail
