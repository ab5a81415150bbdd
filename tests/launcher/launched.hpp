// A launcher under test, and what it leaves behind.
#pragma once

#include <doctest/doctest.h>
#include <sys/types.h>

#include <string>
#include <vector>

#include <weft/tests/support/process.hpp>

namespace weft::test {

inline const std::string kLauncher = WEFT_BUILD_ROOT "/launcher/launcher";
inline const std::string kProbe = WEFT_BUILD_ROOT "/tests/launcher/probe";

/// A launcher that runs beside the test. Its processes all carry a mark in their environment, by
/// which those that it leaves behind are found.
class Launched {
 public:
  explicit Launched(const std::vector<std::string>& arguments,
                    const std::vector<std::string>& environment = {});
  ~Launched();
  Launched(const Launched&) = delete;
  Launched& operator=(const Launched&) = delete;

  pid_t pid() const { return pid_; }
  void signal(int number) const;

  /// Reads until stdout has `text` `times` times; fails after 20 s.
  void wait_for(const std::string& text, int times = 1);
  void close_input();
  /// Closes this side of its stdout, as a pager that ends does.
  void close_output();

  /// Reads to the end, waits for its end and checks that no process of it is left.
  ProcessResult finish();

  const std::string& out() const { return out_; }

  /// The numbers behind each "pid " or "child " on stdout.
  std::vector<pid_t> pids(const std::string& word) const;

  /// The processes with this launcher's mark.
  std::vector<pid_t> left_behind() const;

 private:
  bool read_more(int milliseconds);

  std::string mark_;
  pid_t pid_ = -1;
  int in_ = -1, out_fd_ = -1, err_fd_ = -1;
  std::string out_, err_;
};

/// `launcher ARGUMENTS`, run to its end; checks that no process is left.
ProcessResult launch(const std::vector<std::string>& arguments,
                     const std::vector<std::string>& environment = {});

/// The lines of `text` that begin with none of the prefixes "[0] ", "[1] " …: the launcher's own.
std::vector<std::string> own_lines(const std::string& text);

/// How often `part` occurs in `text`.
int count_of(const std::string& text, const std::string& part);

/// /proc/PID/NAME; empty, or cut off, where the process goes meanwhile.
std::string process_file(pid_t pid, const std::string& name);

/// Whether the process is stopped by a signal within 10 s; nobody but its parent can wait for that.
bool stops_soon(pid_t pid);

/// Whether the process ends within 10 s.
bool ends_soon(pid_t pid);

}  // namespace weft::test
