// Running another program from a test.
#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace weft::test {

struct ProcessOptions {
  std::string folder = {};            ///< working directory (default: the caller's)
  std::vector<std::string> env = {};  ///< "NAME=value" sets, "NAME" removes; the rest is inherited
  std::string input = {};             ///< what the program reads from stdin
  std::chrono::seconds limit{120};
};

struct ProcessResult {
  int exit_code = -1;      ///< -1 where a signal ended it
  int signal = 0;          ///< the signal that ended it, or 0
  bool timed_out = false;  ///< it ran past the limit and was killed, with its process group
  std::string out;
  std::string err;

  bool ok() const { return exit_code == 0; }
};

/// Runs `argv` (argv[0] is looked up in PATH) in a process group of its own and waits for its end.
/// Throws std::system_error where it cannot be started; a program that cannot be executed exits
/// with 127.
ProcessResult run_process(const std::vector<std::string>& argv, const ProcessOptions& options = {});

/// Whether `name` is an executable file on PATH.
bool on_path(const std::string& name);

}  // namespace weft::test
