// One run of the launcher: started, listened to line by line, ended.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include <weft/dist/store/socket.hpp>

namespace weft::inline v0::self_test {

using dist::detail::Fd;

/// Lines come from the job's stdout and stderr, each kept apart.
class LauncherJob {
 public:
  struct Line {
    bool error = false;  ///< from stderr
    std::string text = {};
  };

  /// Throws Error where it cannot be started.
  LauncherJob(const std::vector<std::string>& argv, int signals);
  ~LauncherJob();  ///< ends the job
  LauncherJob(const LauncherJob&) = delete;
  LauncherJob& operator=(const LauncherJob&) = delete;

  /// The next line; nothing where the deadline passes first, a signal comes, or the job has ended.
  std::optional<Line> next(std::chrono::steady_clock::time_point deadline);

  /// Both outputs are closed, and all their lines have been taken.
  bool ended() const { return out_.over() && err_.over(); }
  int signal() const { return signal_; }  ///< that came to this process, or 0

  /// Waits for the launcher's end; its exit code, or 128 + signal.
  int wait();
  /// Asks the launcher to end, then kills it.
  void stop();

 private:
  struct Stream {
    Fd fd = {};
    std::string buffer = {};
    bool over() const { return !fd && buffer.empty(); }
  };
  bool take(Stream& stream);
  std::optional<std::string> line_of(Stream& stream);

  pid_t pid_ = -1;
  int status_ = 0;
  int signals_;  // a signalfd
  int signal_ = 0;
  Stream out_, err_;
};

}  // namespace weft::inline v0::self_test
