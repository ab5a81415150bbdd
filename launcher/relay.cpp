#include <weft/launcher/relay.hpp>

#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

namespace weft::inline v0::launcher {

namespace {

constexpr size_t kPipeWrite = 4096;  // bytes that a ready pipe takes without blocking (PIPE_BUF)
constexpr size_t kLongestLine = 1u << 20;        // bytes; longer lines go out in pieces
constexpr size_t kTailWidth = 2000;              // bytes kept of a line for the report
constexpr std::chrono::milliseconds kIdle{200};  // an unfinished line goes out after this silence
constexpr std::chrono::milliseconds kOldest{1000};  // or at this age, however busy its writer
constexpr std::chrono::seconds kRedrawn{10};  // between lines of a progress bar in a file or a pipe

}  // namespace

Sink::Sink(int fd) : fd_(fd) {
  struct stat info {};
  // A regular file takes everything at once and cannot be waited for.
  may_block_ = ::fstat(fd, &info) == 0 && !S_ISREG(info.st_mode);
  terminal_ = ::isatty(fd) == 1;
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

void Sink::redraw(const void* owner, std::string_view prefix, std::string_view text) {
  if (open_ == owner && terminal_) {
    pending_ += '\r';
    pending_ += prefix;
    const size_t newline = text.find('\n');
    pending_ += text.substr(0, newline);
    pending_ += "\x1b[K";
    if (newline != std::string_view::npos) finish_line(owner);
    return;
  }
  finish_line(owner);
  write(owner, prefix, text);
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
    if (written >= 0) {
      sent_ += static_cast<size_t>(written);
    } else if (errno == EAGAIN) {
      break;
    } else if (errno != EINTR) {
      closed_ = true;  // EPIPE: nobody reads any more; ENOSPC: nothing can be kept
      error_ = errno == EPIPE ? 0 : errno;
    }
  }
  if (closed_ || backlog() == 0) {
    pending_.clear();
    sent_ = 0;
  } else if (sent_ > kLongestLine) {
    pending_.erase(0, sent_);
    sent_ = 0;
  }
}

LineStream::LineStream(Fd fd, StreamOptions options)
    : fd_(std::move(fd)), options_(std::move(options)) {}

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
  keep(bytes);
  if (options_.sink == nullptr) return;
  last_ = Clock::now();
  if (redrawn_ || bytes.find('\r') != std::string_view::npos) return take_lines(bytes);
  const size_t newline = bytes.rfind('\n');
  if (newline == std::string_view::npos) {
    if (partial_.empty()) first_ = last_;
    partial_ += bytes;
  } else {
    partial_ += bytes.substr(0, newline + 1);
    show(partial_);
    partial_ = bytes.substr(newline + 1);
    first_ = last_;
  }
  if (partial_.size() > kLongestLine) flush_partial(false);
}

/// The same, line by line, for output that redraws lines.
void LineStream::take_lines(std::string_view bytes) {
  while (!bytes.empty()) {
    const size_t newline = bytes.find('\n');
    if (partial_.empty()) first_ = last_;
    partial_ += bytes.substr(0, newline);
    redrawn_ = partial_.find('\r') != std::string::npos;
    if (redrawn_) partial_ = std::string(last_drawing(partial_));
    if (newline == std::string_view::npos) break;
    if (redrawn_) {
      show_redrawn("\n");
    } else {
      partial_ += '\n';
      show(std::exchange(partial_, {}));
    }
    bytes.remove_prefix(newline + 1);
  }
  if (partial_.size() > kLongestLine) flush_partial(false);
}

void LineStream::show_redrawn(std::string_view end) {
  std::string text = std::exchange(partial_, {});
  redrawn_ = false;
  if (end.empty())
    while (text.ends_with('\r')) text.pop_back();
  text += end;
  if (text.empty()) return;
  options_.sink->redraw(this, options_.prefix, text);
}

void LineStream::show(std::string_view text) {
  Sink& sink = *options_.sink;
  if (options_.log && sink.backlog() > (left_out_ == 0 ? kFullBacklog : kLowBacklog)) {
    sink.finish_line(this);
    left_out_ += static_cast<size_t>(std::count(text.begin(), text.end(), '\n'));
    return;
  }
  say_left_out();
  sink.write(this, options_.prefix, text);
}

void LineStream::say_left_out() {
  if (left_out_ == 0) return;
  options_.sink->write(this, options_.prefix,
                       "(" + std::to_string(std::exchange(left_out_, 0)) +
                           " lines left out here, as the reader is slow; all are in " +
                           options_.log_name + ")\n");
}

void LineStream::flush_partial(bool at_end) {
  if (options_.sink == nullptr) return;
  if (redrawn_) {
    show_redrawn(options_.sink->terminal() && !at_end ? "" : "\n");
  } else if (!partial_.empty()) {
    show(std::exchange(partial_, {}));
  }
  if (!at_end) return;
  say_left_out();
  options_.sink->finish_line(this);
}

std::optional<TimePoint> LineStream::partial_deadline() const {
  if (partial_.empty()) return std::nullopt;
  if (redrawn_ && !options_.sink->terminal()) return first_ + kRedrawn;
  return std::min(last_ + kIdle, first_ + kOldest);
}

void LineStream::keep(std::string_view bytes) {
  while (options_.log && !bytes.empty()) {
    const ssize_t written = ::write(options_.log.get(), bytes.data(), bytes.size());
    if (written >= 0) {
      bytes.remove_prefix(static_cast<size_t>(written));
    } else if (errno != EINTR) {
      log_error_ = options_.log_name + ": " + std::strerror(errno) + "; the file is not complete";
      options_.log.reset();
    }
  }
}

void LineStream::remember(std::string_view bytes) {
  if (options_.tail_lines == 0) return;
  while (!bytes.empty()) {
    const size_t newline = bytes.find('\n');
    std::string_view piece = bytes.substr(0, newline);
    if (const size_t drawn = piece.size() - last_drawing(piece).size(); drawn > 0) {
      tail_open_.clear();
      piece.remove_prefix(drawn);
    }
    if (tail_open_.size() < kTailWidth)
      tail_open_ += piece.substr(0, kTailWidth - tail_open_.size());
    if (newline == std::string_view::npos) return;
    while (tail_open_.ends_with('\r')) tail_open_.pop_back();
    tail_.push_back(std::exchange(tail_open_, {}));
    if (tail_.size() > options_.tail_lines) tail_.pop_front();
    bytes.remove_prefix(newline + 1);
  }
}

std::string_view last_drawing(std::string_view line) {
  const size_t end = line.find_last_not_of('\r');
  const size_t start = end == std::string_view::npos ? 0 : line.rfind('\r', end);
  // rfind gives npos where no return comes before the last drawing; then it begins with the line.
  return start == std::string_view::npos || end == std::string_view::npos ? line
                                                                          : line.substr(start + 1);
}

std::string lost_output_text(int error) {
  return std::string("launcher: standard output: ") + std::strerror(error) +
         "; output of the ranks is lost";
}

bool same_file(int a, int b) {
  struct stat first {
  }, second{};
  return ::fstat(a, &first) == 0 && ::fstat(b, &second) == 0 && first.st_dev == second.st_dev &&
         first.st_ino == second.st_ino;
}

}  // namespace weft::inline v0::launcher
