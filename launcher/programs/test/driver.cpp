#include <weft/launcher/programs/test/driver.hpp>

#include <fnmatch.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <deque>

#include <fmt/format.h>

#include <weft/core/base/check.hpp>
#include <weft/core/base/env.hpp>
#include <weft/launcher/programs/test/drill.hpp>
#include <weft/launcher/programs/test/job.hpp>
#include <weft/launcher/programs/test/plan.hpp>
#include <weft/launcher/programs/test/progress.hpp>
#include <weft/launcher/programs/test/table.hpp>

namespace weft::inline v0::self_test {

namespace {

using Clock = std::chrono::steady_clock;
constexpr int kExitUsage = 2;
constexpr const char* kStart = "start";
constexpr double kStartLimit = 60;  // seconds: other hosts may be started by hand
constexpr size_t kKeptLines = 200;

Clock::duration seconds(double value) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(value));
}
double since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::vector<std::string> chosen(const std::vector<std::string>& patterns) {
  std::vector<std::string> names;
  for (const CheckName& check : check_names()) names.push_back(check.name);
  names.push_back(kKillDrill.name);
  if (patterns.empty()) return names;
  std::vector<std::string> fitting;
  for (const std::string& name : names)
    if (std::any_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) {
          return ::fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
        }))
      fitting.push_back(name);
  WEFT_CHECK(Error, !fitting.empty(), "launcher test: no check fits '{}'; there are {}",
             fmt::join(patterns, ","), fmt::join(names, ", "));
  return fitting;
}

/// Blocks the signals that end this program and returns a descriptor for them.
Fd take_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) sigaddset(&set, signal);
  ::sigprocmask(SIG_BLOCK, &set, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  return Fd(::signalfd(-1, &set, SFD_CLOEXEC));
}

class Driver {
 public:
  explicit Driver(const DriverOptions& options)
      : options_(options), signals_(take_signals()), table_(::isatty(1) == 1) {
    const std::string folder = env::get("TMPDIR").value_or("/tmp");
    file_ = fmt::format("{}/weft-test-{}", folder, ::getpid());
  }
  ~Driver() { ::unlink(file_.c_str()); }

  int run() {
    const auto start = Clock::now();
    std::vector<std::string> names = chosen(options_.patterns);
    const bool drill = names.back() == kKillDrill.name;
    if (drill) names.pop_back();
    remaining_.assign(names.begin(), names.end());
    while (!remaining_.empty() && !given_up_) run_checks();
    if (drill && !given_up_) run_kill_drill();
    if (signal_ != 0) {
      std::fprintf(stderr, "launcher test: ended by %s\n", ::strsignal(signal_));
      return 128 + signal_;
    }
    if (refused_) return kExitUsage;
    if (start_shown_)
      for (const std::string& check : remaining_) table_.row(check, Verdict::skip, 0, "not run");
    table_.foot(since(start));
    show_output();
    return table_.failed() == 0 ? 0 : 1;
  }

 private:
  std::vector<std::string> command(const std::vector<std::string>& ours) const {
    std::vector<std::string> all = {options_.launcher, "launch"};
    all.insert(all.end(), options_.launch.begin(), options_.launch.end());
    all.insert(all.end(), {"--", options_.ranks});
    all.insert(all.end(), ours.begin(), ours.end());
    return all;
  }

  std::vector<std::string> command_for_checks() const {
    std::vector<std::string> ours = {
        "--check", fmt::format("{}", fmt::join(remaining_.begin(), remaining_.end(), ",")),
        "--file", file_};
    if (options_.quick) ours.push_back("--quick");
    if (!options_.fault.empty()) ours.insert(ours.end(), {"--break", options_.fault});
    return command(ours);
  }

  /// One job: as many of the remaining checks as it lives for.
  void run_checks() {
    Progress progress;
    first_failure_.clear();
    const auto start = Clock::now();
    auto begin = start;  // of the first check
    LauncherJob job(command_for_checks(), signals_.get());
    auto deadline = start + seconds(kStartLimit);
    bool started = false;
    while (!job.ended()) {
      if (const auto line = job.next(deadline)) {
        take(*line, progress);
      } else if (job.signal() != 0) {
        return give_up_by(job.signal());
      } else if (!job.ended()) {
        if (!started) return never_started(since(start), "the ranks did not start in time");
        if (remaining_.empty()) return fail_end("the ranks do not end");
        return fail_next(progress, since(last_), "no end after");
      }
      if (!started && progress.started()) {
        started = true;
        note_start(progress, since(start));
        deadline = Clock::now() + seconds(options_.limit);
        begin = last_ = Clock::now();
      }
      while (const auto finished = progress.next_finished(job.ended())) {
        row(*finished);
        deadline = Clock::now() + seconds(options_.limit);
        last_ = Clock::now();
      }
    }
    const int code = job.wait();
    if (!started) return never_started(since(start), "no rank reported", code);
    if (!remaining_.empty() && (last_ == begin || progress.has_begun(remaining_.front())))
      return fail_next(progress, since(last_), "");
    if (!remaining_.empty()) return;  // the group ended with a check that has failed already
    if (code != 0) fail_end(fmt::format("the launcher's exit code is {}", code));
  }

  void take(const LauncherJob::Line& line, Progress& progress) {
    if (const auto report = parse(line.text)) return progress.take(*report);
    // That a rank gave up with its group says nothing; why the group ended does.
    if (first_failure_.empty() && line.error && line.text.starts_with("rank ") &&
        !line.text.ends_with(fmt::format(" exited with {}", kGroupEnded)))
      first_failure_ = line.text;
    if (output_.size() == kKeptLines) output_.pop_front();
    output_.push_back(line.text);
  }

  void note_start(const Progress& progress, double time) {
    several_hosts_ = progress.local() != progress.world();
    if (start_shown_) return;
    start_shown_ = true;
    std::string figure =
        fmt::format("{} rank{}", progress.world(), progress.world() == 1 ? "" : "s");
    if (several_hosts_) figure += fmt::format(", {} of them on this host", progress.local());
    table_.row(kStart, Verdict::pass, time, figure);
  }

  void row(const Finished& finished) {
    table_.row(finished.check, finished.verdict, finished.seconds, finished.text);
    std::erase(remaining_, finished.check);
    if (finished.verdict == Verdict::fail || finished.verdict == Verdict::lost) show_ = true;
  }

  /// The check that the job was at has failed; the ones behind it get a new job.
  void fail_next(const Progress& progress, double time, const std::string& why) {
    Finished failed = progress.unfinished(remaining_.front());
    failed.seconds = std::max(failed.seconds, time);
    if (!why.empty()) failed.text = fmt::format("{} {:.0f} s: {}", why, time, failed.text);
    if (!first_failure_.empty()) failed.text = first_failure_ + "; " + failed.text;
    row(failed);
    if (several_hosts_ && !remaining_.empty()) {
      // The launchers of the other hosts would have to begin again as well.
      given_up_ = true;
    }
  }

  void fail_end(const std::string& text) {
    table_.row("end", Verdict::fail, options_.limit,
               first_failure_.empty() ? text : first_failure_ + "; " + text);
    show_ = true;
  }

  void never_started(double time, const std::string& text, int code = 0) {
    given_up_ = true;
    show_ = true;
    if (code == kExitUsage && !start_shown_) {
      refused_ = true;
      show_output();
      return;
    }
    std::string hint = text;
    if (code != 0) hint += fmt::format("; the launcher's exit code is {}", code);
    if (!first_failure_.empty()) hint = first_failure_ + "; " + hint;
    table_.row(start_shown_ ? "new ranks" : kStart, Verdict::fail, time, hint);
  }

  void give_up_by(int signal) {
    signal_ = signal;
    given_up_ = true;
  }

  void run_kill_drill() {
    LauncherJob job(command({"--drill"}), signals_.get());
    Drill drill;
    const auto start = Clock::now();
    const auto deadline = start + seconds(kStartLimit);
    while (!job.ended()) {
      if (const auto line = job.next(deadline))
        drill.take(line->text, line->error);
      else if (job.signal() != 0)
        return give_up_by(job.signal());
      else
        break;
    }
    const bool in_time = job.ended();
    if (!in_time) job.stop();
    const int code = job.wait();
    row(drill.judge(in_time, code, since(start)));
  }

  void show_output() {
    if (!show_ || output_.empty()) return;
    std::fprintf(stderr, "%s", refused_ ? "" : "\nWhat the launcher and the ranks said:\n");
    for (const std::string& line : output_) std::fprintf(stderr, "%s\n", line.c_str());
  }

  const DriverOptions& options_;
  Fd signals_;
  Table table_;
  std::string file_;
  std::deque<std::string> remaining_;
  std::deque<std::string> output_;  // of launcher and ranks, the last lines
  std::string first_failure_;       // the launcher's line about it
  Clock::time_point last_ = {};     // when the last check ended
  bool start_shown_ = false, several_hosts_ = false, given_up_ = false, refused_ = false;
  bool show_ = false;
  int signal_ = 0;
};

}  // namespace

int drive(const DriverOptions& options) { return Driver(options).run(); }

}  // namespace weft::inline v0::self_test
