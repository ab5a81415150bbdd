// Random failures of random ranks, with committed seeds: the culprit is named, and nothing is left.
#include <doctest/doctest.h>

#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include <weft/launcher/ending.hpp>
#include <weft/tests/launcher/drill.hpp>
#include <weft/tests/launcher/launched.hpp>
#include <weft/tests/support/temp_dir.hpp>

using namespace weft::test;
namespace fs = std::filesystem;

namespace {

const std::string kDrill = WEFT_BUILD_ROOT "/tests/launcher/drill";
constexpr unsigned kFirstSeed = 20'400;
constexpr double kGrace = 0.5;

std::string content(const fs::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(stream), {});
}

/// A network of this thread's own, so that every socket in it is one of the job's. Where this user
/// may not have one, sockets are not counted.
class OwnNetwork {
 public:
  OwnNetwork() : before_(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)) {
    own_ = before_ >= 0 && ::unshare(CLONE_NEWNET) == 0;
    if (!own_) return;
    const int socket = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ifreq request{};
    std::strcpy(request.ifr_name, "lo");
    request.ifr_flags = IFF_UP;
    REQUIRE(::ioctl(socket, SIOCSIFFLAGS, &request) == 0);
    ::close(socket);
  }
  ~OwnNetwork() {
    if (own_) ::setns(before_, CLONE_NEWNET);
    if (before_ >= 0) ::close(before_);
  }
  OwnNetwork(const OwnNetwork&) = delete;
  OwnNetwork& operator=(const OwnNetwork&) = delete;

  bool own() const { return own_; }

  /// Sockets that are there: Unix ones, and TCP ones but those that the kernel keeps to wait for
  /// late packets.
  int sockets() const {
    int count = 0;
    std::ifstream local("/proc/thread-self/net/unix");
    std::string line;
    std::getline(local, line);
    while (std::getline(local, line)) ++count;
    for (const char* table : {"/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"}) {
      std::ifstream tcp(table);
      std::getline(tcp, line);
      while (std::getline(tcp, line)) {
        char state[8] = "";
        constexpr const char* kTimeWait = "06";
        if (std::sscanf(line.c_str(), "%*s %*s %*s %7s", state) == 1 &&
            std::string(state) != kTimeWait)
          ++count;
      }
    }
    return count;
  }

 private:
  int before_;
  bool own_ = false;
};

Plan draw(unsigned seed) {
  std::mt19937 random(seed);
  const auto below = [&](int limit) {
    return static_cast<int>(random() % static_cast<unsigned>(limit));
  };
  Plan plan;
  plan.ranks = 2 + below(7);
  plan.culprit = below(plan.ranks);
  plan.step = below(30);
  plan.place = static_cast<Place>(below(3));
  plan.manner = static_cast<Manner>(below(6));
  plan.microseconds = below(2000);
  constexpr int kSignals[] = {SIGKILL, SIGSEGV, SIGABRT, SIGFPE, SIGTERM, SIGUSR1, SIGKILL};
  constexpr int kCodes[] = {1, 7, 0, 255};
  if (plan.manner == Manner::signal)
    plan.value = kSignals[below(7)];
  else if (plan.manner == Manner::uncaught)
    plan.value = SIGABRT;
  else if (plan.manner == Manner::hang)
    plan.value = SIGKILL;
  else
    plan.value = kCodes[below(4)];
  if (below(8) == 0) plan.stubborn = (plan.culprit + 1) % plan.ranks;
  return plan;
}

/// The inodes of memory that ranks have shared which some process still has.
int segments_left(const fs::path& folder) {
  std::set<std::string> inodes;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path().filename().string().starts_with("segments.")) {
      std::istringstream lines(content(entry.path()));
      for (std::string inode; std::getline(lines, inode);) inodes.insert(inode);
    }
  CHECK_FALSE(inodes.empty());
  int count = 0;
  for (const auto& process : fs::directory_iterator("/proc")) {
    const std::string number = process.path().filename();
    if (!std::isdigit(static_cast<unsigned char>(number[0]))) continue;
    std::istringstream maps(process_file(std::stoi(number), "maps"));
    for (std::string line; std::getline(maps, line);) {
      char inode[32] = "";
      if (line.find(" /memfd:") != std::string::npos &&
          std::sscanf(line.c_str(), "%*s %*s %*s %*s %31s", inode) == 1 && inodes.count(inode) != 0)
        ++count;
    }
  }
  return count;
}

/// Waits until the culprit hangs, and kills it.
void kill_hanging(const fs::path& folder) {
  const int64_t deadline = now_ns() + int64_t{60'000'000'000};
  std::string pid;
  while ((pid = content(folder / "hung")).empty() && now_ns() < deadline) ::poll(nullptr, 0, 1);
  REQUIRE_FALSE(pid.empty());
  std::ofstream(folder / "died") << now_ns();
  REQUIRE(::kill(std::stoi(pid), SIGKILL) == 0);
}

struct Outcome {
  bool named = false;
  double seconds = 0;  ///< from the culprit's death to the launcher's end
};

/// Runs one schedule; everything but the time is checked here.
Outcome run_schedule(unsigned seed, const OwnNetwork& network) {
  const Plan plan = draw(seed);
  CAPTURE(seed);
  CAPTURE(plan.text());
  const TempDir folder, temporary;
  std::ofstream(folder / "plan") << plan.text();
  Launched job({"-n", std::to_string(plan.ranks), "--grace", std::to_string(kGrace), kDrill},
               {"WEFT_TEST_PLAN=" + folder.path().string(), "TMPDIR=" + temporary.path().string()});
  if (plan.manner == Manner::hang) kill_hanging(folder.path());
  const ProcessResult result = job.finish();  // checks that no process is left
  const int64_t end = now_ns();
  const std::string died = content(folder / "died");
  CAPTURE(result.err.substr(result.err.size() > 3000 ? result.err.size() - 3000 : 0));
  REQUIRE_FALSE(died.empty());
  const bool by_signal = plan.manner == Manner::signal || plan.manner == Manner::uncaught ||
                         plan.manner == Manner::hang;
  const auto own = own_lines(result.err);
  REQUIRE_FALSE(own.empty());
  std::string expected = "rank " + std::to_string(plan.culprit) + R"( \(pid [0-9]+\) )" +
                         (by_signal ? "killed by " + weft::launcher::signal_name(plan.value)
                                    : "exited with " + std::to_string(plan.value));
  const bool early = !by_signal && plan.value == 0;
  if (early) expected += " while rank [0-9]+ still needed it";
  Outcome outcome;
  outcome.named = std::regex_match(own[0], std::regex(expected));
  CHECK_MESSAGE(outcome.named, own[0]);
  if (early)
    CHECK(result.exit_code != 0);
  else
    CHECK(result.exit_code == (by_signal ? 128 + plan.value : plan.value));
  CHECK(fs::is_empty(temporary.path()));
  CHECK(segments_left(folder.path()) == 0);
  if (network.own()) CHECK(network.sockets() == 0);
  outcome.seconds = static_cast<double>(end - std::stoll(died)) * 1e-9;
  CHECK(outcome.seconds < kGrace + 1);
  return outcome;
}

void run_schedules(int count) {
  const OwnNetwork network;
  int named = 0;
  double longest = 0;
  for (int i = 0; i < count; ++i) {
    const Outcome outcome = run_schedule(kFirstSeed + static_cast<unsigned>(i), network);
    named += outcome.named ? 1 : 0;
    longest = std::max(longest, outcome.seconds);
  }
  std::printf(
      "kill schedules: %d of %d named the culprit, longest wait %.2f s (grace %.1f s), %s\n", named,
      count, longest, kGrace,
      network.own() ? "0 sockets left" : "sockets not counted: no network of our own");
  CHECK(named == count);
}

}  // namespace

TEST_CASE("kill schedules: the first 20") { run_schedules(20); }

TEST_SUITE("slow") {
  TEST_CASE("kill schedules: all 100") { run_schedules(100); }
}
