// What a job says about its end; see Note [How a job ends].
#include <signal.h>
#include <unistd.h>

#include <algorithm>

#include <weft/core/base/check.hpp>
#include <weft/launcher/job.hpp>
#include <weft/launcher/program.hpp>

namespace weft::inline v0::launcher {

namespace {

constexpr size_t kListed = 16;  // ranks named in the report

}  // namespace

bool Job::output_lost() const {
  bool lost = out_.error() != 0 || err_.error() != 0;
  for (const Member& member : members_)
    for (const LineStream* stream : {member.out.get(), member.err.get()})
      lost = lost || (stream != nullptr && !stream->log_error().empty());
  return lost;
}

std::string Job::describe_member(int rank) const {
  const Member& member = members_[static_cast<size_t>(rank)];
  return describe(rank_of(rank), member.pid, *member.ending);
}

/// The first line, and what is known about it. `failed` is the rank that failed, `cause` the one
/// that it failed for, which may be itself.
void Job::report_first_failure(int failed, int cause) {
  const Member& member = members_[static_cast<size_t>(cause)];
  const Ending& ending = *member.ending;
  if (ending.by_signal || ending.ok() || !find_exec_failure()) {
    first_failed_ = cause;
    const bool early = ending.ok();
    exit_code_ =
        early ? members_[static_cast<size_t>(failed)].ending->exit_code() : ending.exit_code();
    failure_line_ = describe_member(cause) +
                    (early ? fmt::format(" while rank {} still needed it", rank_of(failed)) : "");
  }
  awaiting_ = options_.on_failure != nullptr;
  if (awaiting_)
    options_.on_failure({failure_line_, exit_code_, follows_elsewhere(failed, cause)});
  else
    say_first_failure();
  stop(exit_code_, SIGTERM);
}

/// Whether the rank says that its group ended for a process that is none of this host's.
bool Job::follows_elsewhere(int failed, int cause) const {
  const auto slot = failed == cause ? records_->read(cause) : nullptr;
  return slot && group_end(*slot) && !lost_by(cause);
}

void Job::say_first_failure() {
  if (!options_.told || first_failed_ < 0) say(failure_line_);
  if (options_.on_first_line) options_.on_first_line(failure_line_);
  if (first_failed_ < 0) return;
  const Ending& ending = *members_[static_cast<size_t>(first_failed_)].ending;
  if (ending.by_signal && ending.value == SIGKILL)
    if (const std::string news = oom_->news(); !news.empty()) say("launcher: " + news);
  say_crash(first_failed_);
}

void Job::say_crash(int rank) {
  const auto slot = records_->read(rank);
  if (!slot) return;
  for (const std::string& line : crash_lines(*slot, members_[static_cast<size_t>(rank)].pid))
    say("launcher: " + line);
}

/// Whether the rank's end is that of a program that could not be executed.
bool Job::find_exec_failure() {
  ExecReport report{};
  if (::read(reports_.get(), &report, sizeof report) != sizeof report) return false;
  const ExecFailure failure = explain_exec_failure(options_.context.path, report.error);
  exit_code_ = failure.code;
  failure_line_ = "launcher: " + failure.text;
  return true;
}

/// The order: consequences, what else there is to say, and the failed rank's own words last, where
/// whoever looks at the end of the output finds them.
void Job::say_rest() {
  if (!options_.quiet) say_other_failures();
  for (const pid_t pid : immortal_)
    say(fmt::format("launcher: process {} is still there after SIGKILL", pid));
  for (const Member& member : members_)
    for (const LineStream* stream : {member.out.get(), member.err.get()})
      if (stream != nullptr && !stream->log_error().empty())
        say("launcher: " + stream->log_error());
  const bool shared = std::any_of(options_.placements.begin(), options_.placements.end(),
                                  [](const Placement& placement) { return placement.shared; });
  if (shared && !options_.quiet)
    say(fmt::format("launcher: --bind core: {} on fewer cores, so that some share one",
                    counted(size(), "rank")));
  if (options_.debug && !options_.placements.empty())
    for (int rank = 0; rank < size(); ++rank)
      say(fmt::format("launcher: rank {} (pid {}): {}", rank_of(rank),
                      members_[static_cast<size_t>(rank)].pid,
                      options_.placements[static_cast<size_t>(rank)].text));
  if (options_.notes)
    for (const std::string& note : options_.notes(exit_code_)) say(note);
  say_tail();
}

/// ", because rank 2 was lost", where the rank's record or its last words say so.
std::string Job::because(int rank) const {
  if (first_failed_ < 0) return "";
  const Member& member = members_[static_cast<size_t>(rank)];
  const pid_t cause = members_[static_cast<size_t>(first_failed_)].pid;
  const auto lost = lost_by(rank);
  bool said = lost && *lost == first_failed_;
  const std::string named = fmt::format("(pid {})", cause);
  if (member.err)
    for (const std::string& line : member.err->tail())
      said = said || line.find(named) != std::string::npos;
  return said ? fmt::format(", because rank {} was lost", rank_of(first_failed_)) : "";
}

/// Whether the rank failed for the first failure: it was ended, or says so.
bool Job::is_consequence(int rank) const {
  if (members_[static_cast<size_t>(rank)].was_stopped || !because(rank).empty()) return true;
  const auto slot = records_->read(rank);
  return slot && group_end(*slot);
}

void Job::say_other_failures() {
  std::string alike, ended;
  size_t count = 0;
  for (int rank = 0; rank < size(); ++rank) {
    const Member& member = members_[static_cast<size_t>(rank)];
    if (rank == first_failed_ || member.ending->ok()) continue;
    const bool killed = member.ending->by_signal && member.ending->value == SIGKILL;
    if (first_failed_ < 0 && !elsewhere_ && !killed) continue;  // it ended as it was asked to
    if (++count > kListed) continue;
    std::string& list = is_consequence(rank) ? ended : alike;
    list += fmt::format("{}{}{}", list.empty() ? "" : "; ", describe_member(rank), because(rank));
  }
  if (count > kListed)
    (ended.empty() ? alike : ended) += fmt::format("; and {} more", count - kListed);
  if (!alike.empty()) say("launcher: at the same time: " + alike);
  if (!ended.empty()) say("launcher: as a consequence: " + ended);
}

void Job::say_tail() {
  if (first_failed_ < 0) return;
  const Member& failed = members_[static_cast<size_t>(first_failed_)];
  if (!failed.err || failed.err->tail().empty()) return;
  say(fmt::format("launcher: the last lines of rank {} on stderr:", rank_of(first_failed_)));
  for (const std::string& line : failed.err->tail()) say("  " + line);
}

}  // namespace weft::inline v0::launcher
