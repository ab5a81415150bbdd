// Starting programs: the launcher beside mpirun.
//
//   launch --report FILE [--filter TEXT] [--seconds S]
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

#include <weft/bench/contender.hpp>
#include <weft/bench/harness.hpp>

namespace {

using namespace weft::bench;
using Command = std::vector<std::string>;
using Clock = std::chrono::steady_clock;

struct Run {
  double seconds;
  double peak_bytes;  ///< of the process, and of those that it waited for
};

/// Throws std::runtime_error where the program does not end with 0.
Run run(const Command& command) {
  std::vector<char*> words;
  for (const std::string& word : command) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  const auto start = Clock::now();
  const pid_t process = fork();
  if (process == 0) {
    const int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (const int stream : {STDIN_FILENO, STDOUT_FILENO}) dup2(nothing, stream);
    execvp(words[0], words.data());
    _exit(127);
  }
  int status = 0;
  rusage usage{};
  if (process < 0 || wait4(process, &status, 0, &usage) != process)
    throw std::runtime_error("cannot run " + command[0] + ": " + std::strerror(errno));
  if (status != 0) throw std::runtime_error(command[0] + " failed");
  const std::chrono::duration<double> taken = Clock::now() - start;
  return {taken.count(), static_cast<double>(usage.ru_maxrss) * 1024};
}

bool works(const Command& command) {
  try {
    run(command);
    return true;
  } catch (const std::runtime_error&) {
    return false;  // not installed: the rows then have no peer
  }
}

/// As many interleaved runs as a comparison needs; the figure of each is `of(run)`.
template <class Of>
void add(Report& report, const std::string& name, const std::string& unit, const Command& ours,
         const Command& theirs, const Of& of) {
  constexpr int kPairs = 25;
  std::vector<double> weft, peer;
  for (int pair = 0; pair < kPairs; ++pair) {
    const bool first = pair % 2 == 0;
    if (first) weft.push_back(of(run(ours)));
    if (!theirs.empty()) peer.push_back(of(run(theirs)));
    if (!first) weft.push_back(of(run(ours)));
  }
  Row row{.name = name, .weft = {}, .peer = {}, .threads = 2, .peer_name = "mpirun"};
  row.unit = unit;
  report.add(row, compare_times(weft, peer));
}

}  // namespace

int main(int argc, char** argv) {
  std::string file, filter;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (std::string(argv[i]) == "--report") file = argv[i + 1];
    if (std::string(argv[i]) == "--filter") filter = argv[i + 1];
  }
  const std::string launcher = own_folder() + "/../launcher/launcher";
  const Command ours = {launcher, "-n", "2", "/bin/true"};
  Command theirs = {"mpirun", "--oversubscribe", "--allow-run-as-root", "-n", "2", "/bin/true"};
  try {
    if (!works(theirs)) theirs.clear();
    Report report(file);
    const auto wanted = [&](const char* name) {
      return std::string(name).find(filter) != std::string::npos;
    };
    if (wanted("launch /bin/true, 2 ranks"))
      add(report, "launch /bin/true, 2 ranks", "s", ours, theirs,
          [](const Run& r) { return r.seconds; });
    if (wanted("launch /bin/true, 2 ranks, peak memory"))
      add(report, "launch /bin/true, 2 ranks, peak memory", "bytes", ours, theirs,
          [](const Run& r) { return r.peak_bytes; });
    if (wanted("launcher --help"))
      add(report, "launcher --help", "s", {launcher, "--help"}, {},
          [](const Run& r) { return r.seconds; });
    return report.write() ? 0 : 1;
  } catch (const std::exception& error) {
    std::cerr << "launch: " << error.what() << "\n";
    return 1;
  }
}
