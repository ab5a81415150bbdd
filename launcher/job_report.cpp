// What a job says about its end; see Note [How a job ends].
#include <unistd.h>

#include <weft/core/base/check.hpp>
#include <weft/launcher/job.hpp>
#include <weft/launcher/program.hpp>

namespace weft::inline v0::launcher {

namespace {

constexpr size_t kListed = 16;  // ranks named in the report

}  // namespace

void Job::report_first_failure(int rank) {
  const Member& member = members_[static_cast<size_t>(rank)];
  if (member.ending->by_signal || !report_exec_failure()) {
    first_failed_ = rank;
    exit_code_ = member.ending->exit_code();
    say(describe(rank, member.pid, *member.ending));
    if (const auto slot = records_->read(rank))
      for (const std::string& line : crash_lines(*slot, member.pid)) say("launcher: " + line);
  }
  stop(exit_code_, SIGTERM);
}

/// Whether the rank's end is that of a program that could not be executed; says so then.
bool Job::report_exec_failure() {
  ExecReport report{};
  if (::read(reports_.get(), &report, sizeof report) != sizeof report) return false;
  const ExecFailure failure = explain_exec_failure(options_.context.path, report.error);
  exit_code_ = failure.code;
  say("launcher: " + failure.text);
  return true;
}

void Job::say_rest() {
  std::string others;
  size_t count = 0;
  for (int rank = 0; rank < size(); ++rank) {
    const Member& member = members_[static_cast<size_t>(rank)];
    if (rank == first_failed_ || member.ending->ok()) continue;
    const bool killed = member.ending->by_signal && member.ending->value == SIGKILL;
    if (first_failed_ < 0 && !killed) continue;  // it ended as it was asked to
    if (++count > kListed) continue;
    others +=
        fmt::format("{}{}", count == 1 ? "" : "; ", describe(rank, member.pid, *member.ending));
  }
  if (count > kListed) others += fmt::format("; and {} more", count - kListed);
  if (count > 0) say("launcher: as a consequence: " + others);
  if (first_failed_ >= 0) {
    const Member& failed = members_[static_cast<size_t>(first_failed_)];
    if (failed.err && !failed.err->tail().empty()) {
      say(fmt::format("launcher: the last lines of rank {} on stderr:", first_failed_));
      for (const std::string& line : failed.err->tail()) say("  " + line);
    }
  }
  for (const pid_t pid : immortal_)
    say(fmt::format("launcher: process {} is still there after SIGKILL", pid));
  if (options_.notes)
    for (const std::string& note : options_.notes()) say(note);
}

void Job::say(const std::string& line) {
  err_.write(this, "", line + "\n");
  err_.flush();
}

}  // namespace weft::inline v0::launcher
