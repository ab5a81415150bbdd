// The ranks' output on its way to the launcher's own: whole lines, each behind its rank's number.
#pragma once

#include <cstddef>
#include <deque>
#include <optional>
#include <string>
#include <string_view>

#include <weft/dist/store/clock.hpp>
#include <weft/dist/store/socket.hpp>

namespace weft::inline v0::launcher {

using dist::detail::Clock;
using dist::detail::Fd;
using dist::detail::TimePoint;

/// Where output goes. Never blocks on a reader that is slow: what does not go out at once is kept.
class Sink {
 public:
  explicit Sink(int fd);

  /// Takes lines of `owner`, the last one perhaps unfinished: a later call of the same owner goes
  /// on with it, another owner's call ends it first. `prefix` goes before each line.
  void write(const void* owner, std::string_view prefix, std::string_view text);

  /// Ends the owner's unfinished line, if it has one.
  void finish_line(const void* owner);

  /// Sends what can be sent without blocking.
  void flush();

  size_t backlog() const noexcept { return pending_.size() - sent_; }
  int fd() const noexcept { return fd_; }
  bool closed() const noexcept { return closed_; }  ///< its reader has gone; output is dropped

 private:
  bool writable() const;

  int fd_;
  bool may_block_;
  bool closed_ = false;
  std::string pending_;
  size_t sent_ = 0;
  const void* open_ = nullptr;  // whose line is unfinished
};

/// One output of one rank: the pipe's end that the launcher reads.
class LineStream {
 public:
  /// Keeps the last `tail_lines` lines for the report of a failure.
  LineStream(Fd fd, Sink& sink, std::string prefix, size_t tail_lines);
  LineStream(const LineStream&) = delete;
  LineStream& operator=(const LineStream&) = delete;

  /// Takes what is there, at most `limit` bytes, without waiting; false at the end of the stream.
  bool read_some(size_t limit);

  /// Passes on an unfinished line; at the end of the stream it becomes a line.
  void flush_partial(bool at_end);

  /// When an unfinished line has waited long enough.
  std::optional<TimePoint> partial_deadline() const;

  int fd() const noexcept { return fd_.get(); }
  bool open() const noexcept { return static_cast<bool>(fd_); }
  void close() { fd_.reset(); }
  Sink& sink() const noexcept { return sink_; }
  const std::deque<std::string>& tail() const noexcept { return tail_; }

 private:
  void take(std::string_view bytes);
  void remember(std::string_view bytes);

  Fd fd_;
  Sink& sink_;
  std::string prefix_;
  size_t tail_lines_;
  std::string partial_;               // the unfinished line, not yet passed on
  TimePoint first_ = {}, last_ = {};  // when its first and its last bytes came
  std::deque<std::string> tail_;
  std::string tail_open_;
};

/// Whether both descriptors are the same file, pipe or terminal.
bool same_file(int a, int b);

}  // namespace weft::inline v0::launcher
