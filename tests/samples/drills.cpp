// The drills of a launched training job: a rank dies, and how long a job takes that does nothing.
#include <doctest/doctest.h>

#include <arpa/inet.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <weft/tests/launcher/launched.hpp>
#include <weft/tests/support/temp_dir.hpp>

using namespace weft::test;

namespace {

using Clock = std::chrono::steady_clock;

const std::string kDrill = WEFT_BUILD_ROOT "/tests/samples/drill";

#ifdef WEFT_SANITIZED
constexpr double kSlower = 10;
#else
constexpr double kSlower = 1;
#endif

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::set<std::string> shared_files() {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator("/dev/shm"))
    names.insert(entry.path().filename());
  return names;
}

/// Whether anything accepts connections at this port of this host.
bool is_listening(int port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  REQUIRE(fd >= 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int result = ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
  ::close(fd);
  return result == 0;
}

/// Whether the process's main thread sleeps in the kernel; false after 10 s of work.
bool falls_asleep(pid_t pid) {
  const auto deadline = Clock::now() + std::chrono::seconds(10);
  while (Clock::now() < deadline) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
    const std::string text((std::istreambuf_iterator<char>(file)),
                           std::istreambuf_iterator<char>());
    const size_t name_end = text.rfind(')');
    if (name_end != std::string::npos && text.substr(name_end + 2, 1) == "S") return true;
    std::this_thread::yield();
  }
  return false;
}

/// Rank 2 of 4, halted at `place`, is killed by signal 9 once it has said `line` and sleeps.
void kill_in(const std::string& place, const std::string& line) {
  const std::set<std::string> shared = shared_files();
  const TempDir temp;
  Launched job({"-n", "4", kDrill, place, "2", "5"},
               {"TMPDIR=" + temp.path().string(), "XDG_RUNTIME_DIR=" + temp.path().string()});
  job.wait_for(" store ", 4);
  job.wait_for("[2] " + line);
  const pid_t victim = job.pids("\\[2\\] pid").at(0);
  const int port = job.pids(" store").at(0);
  CHECK(is_listening(port));
  REQUIRE(falls_asleep(victim));

  const auto start = Clock::now();
  REQUIRE(::kill(victim, SIGKILL) == 0);
  const ProcessResult result = job.finish();  // checks that no process is left
  const double seconds = seconds_since(start);

  MESSAGE("killed in " << place << ": the launcher ended after " << seconds * 1e3 << " ms");
  CHECK(result.exit_code == 137);
  CHECK(seconds < 2 * kSlower);
  const std::vector<std::string> own = own_lines(result.err);
  REQUIRE(!own.empty());
  CHECK(own[0] == "rank 2 (pid " + std::to_string(victim) + ") killed by SIGKILL");
  CHECK(count_of(result.out, "trained to the end") == 0);
  CHECK_FALSE(is_listening(port));
  CHECK(shared_files() == shared);
  CHECK(std::filesystem::is_empty(temp.path()));
}

}  // namespace

TEST_CASE("drill: kill -9 of one of 4 training ranks in forward") {
  kill_in("forward", "in forward");
}

TEST_CASE("drill: kill -9 of one of 4 training ranks inside all_reduce") {
  kill_in("all_reduce", "into all_reduce");
}

TEST_CASE("drill: two ranks, one barrier") {
  std::vector<double> seconds;
  for (int i = 0; i < 5; ++i) {
    const auto start = Clock::now();
    const ProcessResult result = launch({"-n", "2", kDrill, "barrier"});
    seconds.push_back(seconds_since(start));
    CHECK(result.exit_code == 0);
    CHECK_MESSAGE(result.err.empty(), result.err);
  }
  std::sort(seconds.begin(), seconds.end());
  MESSAGE("a job of one barrier: " << seconds[2] * 1e3 << " ms");
  CHECK(seconds[2] < 0.5 * kSlower);  // 0.06 on a machine that does nothing else
}
