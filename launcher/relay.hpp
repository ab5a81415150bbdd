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

  /// The same for one line that replaces what the owner's unfinished line shows: in place on a
  /// terminal, else as a line of its own.
  void redraw(const void* owner, std::string_view prefix, std::string_view text);

  /// Ends the owner's unfinished line, if it has one.
  void finish_line(const void* owner);

  bool terminal() const noexcept { return terminal_; }

  /// Sends what can be sent without blocking.
  void flush();

  size_t backlog() const noexcept { return pending_.size() - sent_; }
  int fd() const noexcept { return fd_; }
  bool closed() const noexcept { return closed_; }  ///< its reader has gone; output is dropped
  /// The errno of output that could not be kept, as on a full disk; 0: none, or the reader has
  /// gone.
  int error() const noexcept { return error_; }

 private:
  bool writable() const;

  int fd_;
  bool may_block_, terminal_;
  bool closed_ = false;
  int error_ = 0;
  std::string pending_;
  size_t sent_ = 0;
  const void* open_ = nullptr;  // whose line is unfinished
};

/// Bytes of a sink that are not written yet at which those who write into it wait or leave out.
inline constexpr size_t kFullBacklog = 4u << 20;
inline constexpr size_t kLowBacklog = 1u << 20;

struct StreamOptions {
  Sink* sink = nullptr;     ///< none: not shown
  std::string prefix = {};  ///< before each line that is shown
  size_t tail_lines = 0;    ///< kept for the report of a failure
  Fd log = {};              ///< (optional) file that everything goes to, byte for byte
  std::string log_name = {};
};

/// One output of one rank: the pipe's end that the launcher reads.
///
/// Note [What a slow reader gets]
/// Without a file, output waits in the rank's pipe, and so does the rank once it is full: nothing
/// is lost. With a file, which has everything, the rank goes on: lines that do not fit the backlog
/// are left out on the console, and their number stands where they would have been.
class LineStream {
 public:
  LineStream(Fd fd, StreamOptions options);
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
  /// Whether it has to wait for a sink that is full.
  bool waits() const noexcept { return options_.sink != nullptr && !options_.log; }
  const std::deque<std::string>& tail() const noexcept { return tail_; }
  /// Why the file is not complete; empty while it is.
  const std::string& log_error() const noexcept { return log_error_; }

 private:
  void take(std::string_view bytes);
  void take_lines(std::string_view bytes);
  void keep(std::string_view bytes);
  void show(std::string_view text);
  void show_redrawn(std::string_view end);
  void say_left_out();
  void remember(std::string_view bytes);

  Fd fd_;
  StreamOptions options_;
  std::string log_error_;
  std::string partial_;               // the unfinished line, not yet passed on
  bool redrawn_ = false;              // it holds a carriage return
  TimePoint first_ = {}, last_ = {};  // when its first and its last bytes came
  size_t left_out_ = 0;               // lines
  std::deque<std::string> tail_;
  std::string tail_open_;
};

/// What a terminal would show of a line that returns to its start to be redrawn: the last drawing.
/// A carriage return at the end stays.
std::string_view last_drawing(std::string_view line);

/// What is said where the launcher's standard output could not be written.
std::string lost_output_text(int error);

/// Whether both descriptors are the same file, pipe or terminal.
bool same_file(int a, int b);

}  // namespace weft::inline v0::launcher
