#include <weft/launcher/relay.hpp>

#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

namespace weft::inline v0::launcher {

namespace {

constexpr size_t kPipeWrite = 4096;  // bytes that a ready pipe takes without blocking (PIPE_BUF)
constexpr size_t kLongestLine = 1u << 20;        // bytes; longer lines go out in pieces
constexpr size_t kTailWidth = 2000;              // bytes kept of a line for the report
constexpr std::chrono::milliseconds kIdle{200};  // an unfinished line goes out after this silence
constexpr std::chrono::milliseconds kOldest{1000};  // or at this age, however busy its writer

}  // namespace

Sink::Sink(int fd) : fd_(fd) {
  struct stat info {};
  // A regular file takes everything at once and cannot be waited for.
  may_block_ = ::fstat(fd, &info) == 0 && !S_ISREG(info.st_mode);
}

void Sink::write(const void* owner, std::string_view prefix, std::string_view text) {
  if (closed_) return;
  while (!text.empty()) {
    const size_t newline = text.find('\n');
    const std::string_view line = text.substr(0, newline);
    if (open_ != owner) {
      if (open_ != nullptr) pending_ += '\n';
      pending_ += prefix;
    }
    pending_ += line;
    if (newline == std::string_view::npos) {
      open_ = owner;
      return;
    }
    pending_ += '\n';
    open_ = nullptr;
    text.remove_prefix(newline + 1);
  }
}

void Sink::finish_line(const void* owner) {
  if (open_ != owner) return;
  pending_ += '\n';
  open_ = nullptr;
}

bool Sink::writable() const {
  pollfd entry{fd_, POLLOUT, 0};
  return ::poll(&entry, 1, 0) > 0;
}

// Note [Output never blocks the launcher]
// A launcher that hangs in write() because its output is piped into a stopped pager would watch
// over nothing. Its standard output may not be made non-blocking, as it is shared with other
// processes. So it asks before each write, and writes no more than a pipe that is ready takes at
// once.
void Sink::flush() {
  while (!closed_ && backlog() > 0) {
    if (may_block_ && !writable()) break;
    const size_t size = may_block_ ? std::min(backlog(), kPipeWrite) : backlog();
    const ssize_t written = ::write(fd_, pending_.data() + sent_, size);
    if (written >= 0)
      sent_ += static_cast<size_t>(written);
    else if (errno == EAGAIN)
      break;
    else if (errno != EINTR)
      closed_ = true;  // EPIPE: nobody reads any more; ENOSPC: nothing can be kept
  }
  if (closed_ || backlog() == 0) {
    pending_.clear();
    sent_ = 0;
  } else if (sent_ > kLongestLine) {
    pending_.erase(0, sent_);
    sent_ = 0;
  }
}

LineStream::LineStream(Fd fd, Sink& sink, std::string prefix, size_t tail_lines)
    : fd_(std::move(fd)), sink_(sink), prefix_(std::move(prefix)), tail_lines_(tail_lines) {}

bool LineStream::read_some(size_t limit) {
  static char buffer[64 * 1024];
  for (size_t taken = 0; taken < limit;) {
    const ssize_t got = ::read(fd_.get(), buffer, sizeof buffer);
    if (got > 0) {
      take({buffer, static_cast<size_t>(got)});
      taken += static_cast<size_t>(got);
    } else if (got < 0 && errno == EINTR) {
      continue;
    } else {
      return got < 0 && errno == EAGAIN;
    }
  }
  return true;
}

void LineStream::take(std::string_view bytes) {
  remember(bytes);
  last_ = Clock::now();
  const size_t newline = bytes.rfind('\n');
  if (newline == std::string_view::npos) {
    if (partial_.empty()) first_ = last_;
    partial_ += bytes;
  } else {
    sink_.write(this, prefix_, partial_);
    sink_.write(this, prefix_, bytes.substr(0, newline + 1));
    partial_ = bytes.substr(newline + 1);
    first_ = last_;
  }
  if (partial_.size() > kLongestLine) flush_partial(false);
}

void LineStream::flush_partial(bool at_end) {
  sink_.write(this, prefix_, partial_);
  partial_.clear();
  if (at_end) sink_.finish_line(this);
}

std::optional<TimePoint> LineStream::partial_deadline() const {
  if (partial_.empty()) return std::nullopt;
  return std::min(last_ + kIdle, first_ + kOldest);
}

void LineStream::remember(std::string_view bytes) {
  if (tail_lines_ == 0) return;
  while (!bytes.empty()) {
    const size_t newline = bytes.find('\n');
    const std::string_view piece = bytes.substr(0, newline);
    if (tail_open_.size() < kTailWidth)
      tail_open_ += piece.substr(0, kTailWidth - tail_open_.size());
    if (newline == std::string_view::npos) return;
    tail_.push_back(std::exchange(tail_open_, {}));
    if (tail_.size() > tail_lines_) tail_.pop_front();
    bytes.remove_prefix(newline + 1);
  }
}

bool same_file(int a, int b) {
  struct stat first {
  }, second{};
  return ::fstat(a, &first) == 0 && ::fstat(b, &second) == 0 && first.st_dev == second.st_dev &&
         first.st_ino == second.st_ino;
}

}  // namespace weft::inline v0::launcher
