// The ranks of one job on this host: started, watched, their output passed on, ended.
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <weft/launcher/affinity.hpp>
#include <weft/launcher/crash_report.hpp>
#include <weft/launcher/ending.hpp>
#include <weft/launcher/guardian.hpp>
#include <weft/launcher/oom.hpp>
#include <weft/launcher/output.hpp>
#include <weft/launcher/relay.hpp>
#include <weft/launcher/spawn.hpp>

namespace weft::inline v0::launcher {

/// The end of the job for a reason beyond this host's ranks, or the answer to `on_failure`.
struct OutsideEnd {
  std::string line = {};  ///< what is said, as the launcher's first line
  int exit_code = 1;
  bool own = false;      ///< it is what on_failure told
  bool at_once = false;  ///< nobody is left to wait for: the ranks are killed
  int signal = 0;        ///< no end at all: the ranks get this signal
};

/// What failed first on this host.
struct LocalFailure {
  std::string line = {};
  int exit_code = 1;
  bool follows = false;  ///< it says that it lost a process that is not on this host
};

struct JobOptions {
  SpawnContext context;                                ///< report_fd is the job's own business
  std::vector<std::vector<std::string>> environments;  ///< of each rank of this host
  std::vector<Placement> placements = {};              ///< of each; empty: not bound
  int first_rank = 0;                                  ///< of this host, among all ranks
  int total_ranks = 0;                                 ///< of all hosts; 0: those of this one
  std::string launcher_id = {};                        ///< their WEFT_LAUNCHER_ID
  OutputOptions output = {};
  bool quiet = false;  ///< nothing is said of consequences
  bool told = false;   ///< the first line is said by the launcher that started this one
  bool debug = false;  ///< each rank's place is said at the end
  std::optional<double> time_limit;
  std::optional<TimePoint> time_limit_from = {};  ///< when it began; none: with this attempt
  double grace = 10;
  /// (optional) a descriptor that becomes readable when something else may have ended the job,
  /// which `outside` then says
  int outside_fd = -1;
  std::function<std::optional<OutsideEnd>()> outside = nullptr;
  /// (optional) told what failed first here, before anything is said of it, as another host may
  /// have been first: `outside` has the answer
  std::function<void(const LocalFailure&)> on_failure = nullptr;
  /// (optional) told what is said first when the job ends for a failure
  std::function<void(const std::string&)> on_first_line = nullptr;
  /// (optional) told that a signal or the time limit ends the job: what, and the exit code
  std::function<void(const std::string&, int)> on_stop = nullptr;
  /// (optional) told when a rank ends: its number among all ranks and the text about it
  std::function<void(int, const std::string&)> on_end = nullptr;
  /// (optional) lines for the end of the output, behind the report of a failure; told the exit code
  std::function<std::vector<std::string>(int)> notes = nullptr;
};

/// Note [How a job ends]
/// Each rank is a direct child in a process group of its own. Its pidfd becomes readable when it
/// dies; it is then looked at but not reaped, so that its number, which is its group's number too,
/// stays taken until the job is over and no signal can hit a stranger. The first failure decides:
/// its text is the launcher's first own line on stderr, its code the launcher's exit code; the
/// others get SIGTERM and, after the grace period, SIGKILL. The same path serves the time limit and
/// signals to the launcher. When no rank is left, every group is killed, then every orphan that
/// fell to the launcher, which is a subreaper; then all are reaped.
class Job {
 public:
  explicit Job(JobOptions options);
  ~Job();  ///< kills and reaps what is still there
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;

  /// Starts the ranks and watches them to the end. The signals in `handled_signals()` must be
  /// blocked. Returns the launcher's exit code.
  int run();

  /// Whether output of the ranks could not be written, to the launcher's own or to a file of a
  /// rank's, which the last lines on stderr say.
  bool output_lost() const;

  static sigset_t handled_signals();

 private:
  struct Member {
    pid_t pid = -1;
    Fd pidfd;
    std::unique_ptr<LineStream> out, err;  // none where the rank has the launcher's own
    std::optional<Ending> ending;
    bool was_stopped = false;  // it was there when the others were ended for the first failure
  };

  /// A rank that failed, but says that it lost another one, which may be the true first failure and
  /// is waited for until then.
  struct Doubt {
    int failed, suspect;
    TimePoint until;
  };

  void start_rank(int rank);
  Streams make_streams(Member& member, int rank, std::vector<Fd>& child_ends);
  void step();
  int wait_milliseconds() const;
  void on_event(uint64_t tag);
  void on_signals();
  void on_signal(int signal, pid_t sender);
  void on_rank_end(int rank);
  bool record_end(int rank);
  int culprit(int rank);
  void on_failure(int rank);
  void settle_doubt(bool at_end);
  std::optional<int> lost_by(int rank) const;
  void on_outside();
  void report_first_failure(int failed, int cause);
  bool follows_elsewhere(int failed, int cause) const;
  void say_first_failure();
  void say_crash(int rank);
  bool find_exec_failure();
  void on_stream(LineStream& stream, bool to_the_end);
  void on_timers();

  TimePoint time_limit_end() const;
  void stop(int exit_code, int signal);
  void kill_ranks();
  void signal_groups(int signal, bool ended_too);
  void suspend();
  void finish();
  void sweep();
  void say_rest();
  void say_other_failures();
  void say_tail();
  std::string because(int rank) const;
  bool is_consequence(int rank) const;
  std::string describe_member(int rank) const;
  void say(const std::string& line);
  void drain_sinks();
  void update_sinks();

  int rank_of(int local) const { return options_.first_rank + local; }
  int size() const { return static_cast<int>(members_.size()); }
  Sink& err() { return err_; }
  Sink& out() { return one_output_ ? err_ : out_; }
  void watch(int fd, uint64_t tag, uint32_t events, int operation);

  JobOptions options_;
  std::vector<Member> members_;
  std::vector<pid_t> strangers_;  // children from before the launcher was executed
  bool one_output_;
  Sink out_, err_;
  Fd epoll_, signals_, reports_, report_end_, null_;
  std::optional<CrashRecords> records_;
  std::optional<OomWatch> oom_;
  std::optional<Guardian> guardian_;
  std::optional<Doubt> doubt_;
  bool streams_paused_ = false;
  bool sink_watched_[2] = {false, false};

  int running_ = 0;
  TimePoint start_ = {};
  bool stopping_ = false, killing_ = false, swept_ = false, abandoned_ = false;
  TimePoint kill_at_ = {};
  int exit_code_ = 0;
  int first_failed_ = -1;
  std::string failure_line_;
  bool told_unread_ = false;
  bool awaiting_ = false;   // the answer to on_failure
  bool elsewhere_ = false;  // the first failure was on another host
  std::vector<pid_t> immortal_;
};

}  // namespace weft::inline v0::launcher
