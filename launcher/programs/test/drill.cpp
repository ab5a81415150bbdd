#include <weft/launcher/programs/test/drill.hpp>

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

#include <fmt/format.h>

#include <weft/core/base/check.hpp>
#include <weft/launcher/programs/test/plan.hpp>

namespace weft::inline v0::self_test {

namespace {

constexpr int kKilled = 128 + 9;
constexpr double kSoon = 2;            // seconds until survivors on one host know; promised is 1
constexpr double kSoonOverHosts = 20;  // and on others

/// Processes whose environment has the job's id.
std::vector<int> processes_of(const std::string& job) {
  std::vector<int> found;
  std::error_code error;
  const std::string mark = '\0' + ("WEFT_JOB_ID=" + job) + '\0';
  for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
    const std::string name = entry.path().filename();
    if (name[0] < '1' || name[0] > '9') continue;
    std::ifstream file(entry.path() / "environ", std::ios::binary);
    const std::string text((std::istreambuf_iterator<char>(file)),
                           std::istreambuf_iterator<char>());
    if (('\0' + text + '\0').find(mark) != std::string::npos) found.push_back(std::stoi(name));
  }
  return found;
}

}  // namespace

void Drill::take(const std::string& line, bool error) {
  const auto report = parse(line);
  if (!report) {
    if (first_failure_.empty() && error && line.starts_with("rank ")) first_failure_ = line;
    lines_.push_back(line);
    return;
  }
  progress_.take(*report);
  if (report->event != Event::drill) return;
  std::istringstream words(report->text);
  std::string word;
  int64_t number = 0;
  words >> word >> number;
  if (word == "culprit") culprit_ = static_cast<int>(number);
  if (word == "kill") killed_at_ = number;
  if (word == "lost") lost_at_[report->rank] = number;
}

std::string Drill::problem(bool in_time, int exit_code) const {
  if (!in_time) return "the job did not end";
  if (!progress_.started() || culprit_ < 0)
    return fmt::format("the ranks did not start: {}", lines_.empty() ? "" : lines_.front());
  const std::string named = fmt::format("rank {} (pid ", culprit_);
  if (!first_failure_.starts_with(named) ||
      first_failure_.find(" killed by SIGKILL") == std::string::npos)
    return fmt::format("rank {} was killed; the launcher says: {}", culprit_, first_failure_);
  if (exit_code != kKilled)
    return fmt::format("the launcher's exit code is {} instead of {}", exit_code, kKilled);
  for (const auto& [rank, facts] : progress_.ranks())
    if (rank != culprit_ && lost_at_.count(rank) == 0)
      return fmt::format("rank {} did not get PeerLost", rank);
  for (const auto& [rank, facts] : progress_.ranks())
    if (const auto left = processes_of(facts.job); !left.empty())
      return fmt::format("processes are left: {}", fmt::join(left, ", "));
  return {};
}

Finished Drill::judge(bool in_time, int exit_code, double seconds) const {
  Finished result{.check = kKillDrill.name, .seconds = seconds};
  result.text = problem(in_time, exit_code);
  if (!result.text.empty()) {
    result.verdict = Verdict::fail;
    return result;
  }
  // The clocks of other hosts say nothing here.
  const bool one_host = progress_.local() == progress_.world();
  double latest = 0;
  for (const auto& [rank, time] : lost_at_)
    if (killed_at_ != 0) latest = std::max(latest, static_cast<double>(time - killed_at_) / 1e9);
  result.text = fmt::format("rank {} named", culprit_);
  if (!lost_at_.empty() && one_host)
    result.text += fmt::format(", PeerLost after {:.1f} ms", latest * 1e3);
  result.text += ", nothing left";
  if (latest > (one_host ? kSoon : kSoonOverHosts)) {
    result.verdict = Verdict::fail;
    result.text = fmt::format("PeerLost came {:.1f} s after the kill", latest);
  }
  return result;
}

}  // namespace weft::inline v0::self_test
