#include <weft/launcher/job.hpp>

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <tuple>
#include <utility>

#include <weft/core/base/check.hpp>
#include <weft/launcher/error.hpp>
#include <weft/launcher/processes.hpp>
#include <weft/launcher/program.hpp>

namespace weft::inline v0::launcher {

using dist::detail::deadline_after;
using dist::detail::poll_timeout;
using weft::detail::fail;

namespace {

// What an epoll event is about: the kind in the upper half, the rank in the lower one.
enum Event : uint32_t { kSignals, kEnd, kOut, kErr, kSinkOut, kSinkErr, kOutside };
uint64_t tag_of(Event kind, int rank = 0) {
  return uint64_t{kind} << 32 | static_cast<uint32_t>(rank);
}

constexpr size_t kReadAtOnce = 256 * 1024;  // bytes of one stream before others have their turn
constexpr size_t kReadAtEnd = 16u << 20;    // bytes of one stream that its rank's death brings
constexpr double kSweepSeconds = 5;         // for processes that even SIGKILL does not end at once
constexpr double kDyingSeconds = 0.5;       // for a rank that is seen dying to be dead
constexpr double kDoubtSeconds = 2;         // for a rank that another one has lost to end

std::pair<Fd, Fd> make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0)
    throw LaunchError(kExitUsage,
                      fmt::format("cannot make a pipe: {}; raise the limit on open files (ulimit "
                                  "-n) or start fewer ranks",
                                  std::strerror(errno)));
  return {Fd(ends[0]), Fd(ends[1])};
}

/// Room for the ranks' pipes, handles and connections to the store. Said before anything starts: a
/// limit that is met half-way would leave it to chance what fails.
void reserve_descriptors(int ranks, bool with_logs) {
  const auto needed = static_cast<rlim_t>(32 + (with_logs ? 7 : 5) * ranks);
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= needed) return;
  if (limit.rlim_max < needed)
    throw LaunchError(kExitUsage, fmt::format("{} ranks need {} open files, the limit is {}; raise "
                                              "it (ulimit -n) or start fewer ranks",
                                              ranks, needed, limit.rlim_max));
  limit.rlim_cur = needed;
  ::setrlimit(RLIMIT_NOFILE, &limit);  // where it is refused, the first call that needs it says so
}

/// How the child `pid` ended, if it has; it is not reaped.
std::optional<Ending> ending_of(pid_t pid) {
  siginfo_t info{};
  if (::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
      info.si_pid == 0)
    return std::nullopt;
  return Ending{info.si_code != CLD_EXITED, info.si_status};
}

}  // namespace

sigset_t Job::handled_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  for (const int signal : {SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGTSTP}) {
    // What whoever started the launcher had it ignore (nohup: SIGHUP) stays ignored.
    struct sigaction action {};
    if (::sigaction(signal, nullptr, &action) == 0 && action.sa_handler != SIG_IGN)
      sigaddset(&set, signal);
  }
  return set;
}

Job::Job(JobOptions options)
    : options_(std::move(options)), one_output_(same_file(1, 2)), out_(1), err_(2) {
  const sigset_t handled = handled_signals();
  epoll_ = Fd(::epoll_create1(EPOLL_CLOEXEC));
  signals_ = Fd(::signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK));
  null_ = Fd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (!epoll_ || !signals_ || !null_)
    fail<IoError>("launcher: epoll, signalfd or /dev/null: {}", std::strerror(errno));
  std::tie(reports_, report_end_) = make_pipe();
  ::fcntl(reports_.get(), F_SETFL, O_NONBLOCK);
  options_.context.report_fd = report_end_.get();
  watch(signals_.get(), tag_of(kSignals), EPOLLIN, EPOLL_CTL_ADD);
  if (has_children()) strangers_ = children();
  become_subreaper();
}

Job::~Job() { sweep(); }

void Job::watch(int fd, uint64_t tag, uint32_t events, int operation) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = tag;
  if (::epoll_ctl(epoll_.get(), operation, fd, &event) != 0)
    fail<IoError>("launcher: epoll_ctl: {}", std::strerror(errno));
}

int Job::run() {
  start_ = Clock::now();
  members_.resize(options_.environments.size());
  reserve_descriptors(size(), !options_.output.log_folder.empty());
  oom_.emplace();
  guardian_.emplace(options_.launcher_id);
  if (options_.outside_fd >= 0)
    watch(options_.outside_fd, tag_of(kOutside), EPOLLIN, EPOLL_CTL_ADD);
  records_.emplace(size());
  options_.context.crash_fd = records_->fd();
  for (int rank = 0; rank < size(); ++rank) start_rank(rank);
  report_end_.reset();
  while (running_ > 0 || awaiting_) step();
  settle_doubt(true);
  finish();
  return exit_code_;
}

/// One rank alone has the launcher's own outputs, so that it sees a terminal where there is one,
/// unless there is something to be done about its output.
/// Rank 0 reads the launcher's input, unless it is a terminal, which a background group may not
/// read.
Streams Job::make_streams(Member& member, int rank, std::vector<Fd>& child_ends) {
  Streams streams;
  streams.in = rank_of(rank) == 0 && ::isatty(0) == 0 ? 0 : null_.get();
  const int ranks = std::max(size(), options_.total_ranks);
  if (!needs_pipe(options_.output, ranks)) return streams;
  const RankPlace place{rank_of(rank), rank, ranks};
  const auto add = [&](Sink& sink, Event kind, Stream stream) {
    auto [read_end, write_end] = make_pipe();
    ::fcntl(read_end.get(), F_SETFL, O_NONBLOCK);
    watch(read_end.get(), tag_of(kind, rank), EPOLLIN, EPOLL_CTL_ADD);
    child_ends.push_back(std::move(write_end));
    return std::make_unique<LineStream>(std::move(read_end),
                                        stream_options(options_.output, stream, place, sink));
  };
  member.out = add(out(), kOut, Stream::out);
  member.err = add(err(), kErr, Stream::err);
  streams.out = child_ends[0].get();
  streams.err = child_ends[1].get();
  return streams;
}

void Job::start_rank(int rank) {
  const auto index = static_cast<size_t>(rank);
  Member& member = members_[index];
  std::vector<Fd> child_ends;
  const Streams streams = make_streams(member, rank, child_ends);
  std::vector<std::string> environment = options_.environments[index];
  if (records_->fd() >= 0) environment.push_back(fmt::format("WEFT_CRASH_FD={}", records_->fd()));
  const std::vector<int> cpus =
      options_.placements.empty() ? std::vector<int>() : options_.placements[index].cpus;
  member.pid = spawn(options_.context, rank, environment, streams, cpus);
  if (member.pid < 0)
    throw LaunchError(kExitUsage,
                      fmt::format("cannot start rank {}: {}; raise the limit on processes (ulimit "
                                  "-u) or start fewer ranks",
                                  rank_of(rank), std::strerror(errno)));
  ++running_;
  member.pidfd = Fd(static_cast<int>(::syscall(SYS_pidfd_open, member.pid, 0)));
  if (!member.pidfd)
    throw LaunchError(kExitUsage, fmt::format("cannot watch rank {}: pidfd_open: {}; Linux 5.4 or "
                                              "later is needed",
                                              rank, std::strerror(errno)));
  watch(member.pidfd.get(), tag_of(kEnd, rank), EPOLLIN, EPOLL_CTL_ADD);
}

TimePoint Job::time_limit_end() const {
  return options_.time_limit_from.value_or(start_) +
         dist::detail::to_duration(*options_.time_limit);
}

int Job::wait_milliseconds() const {
  TimePoint next = TimePoint::max();
  if (running_ > 0 && options_.time_limit && !stopping_) next = time_limit_end();
  if (running_ > 0 && stopping_ && !killing_) next = kill_at_;
  if (doubt_) next = std::min(next, doubt_->until);
  for (const Member& member : members_)
    for (const LineStream* stream : {member.out.get(), member.err.get()})
      if (stream != nullptr)
        next = std::min(next, stream->partial_deadline().value_or(TimePoint::max()));
  return next == TimePoint::max() ? -1 : poll_timeout(next);
}

void Job::step() {
  epoll_event events[64];
  update_sinks();
  const int count = ::epoll_wait(epoll_.get(), events, 64, wait_milliseconds());
  if (count < 0 && errno != EINTR) fail<IoError>("launcher: epoll_wait: {}", std::strerror(errno));
  // In the order of arrival, which is how the first failure is told from its consequences.
  for (int i = 0; i < count; ++i) on_event(events[i].data.u64);
  on_timers();
  out_.flush();
  err_.flush();
  // To a person alone: others read on stderr what failed first.
  if (out_.closed() && out_.error() == 0 && err_.terminal() && !std::exchange(told_unread_, true))
    say("launcher: nobody reads standard output any more; the job goes on without it");
}

void Job::on_event(uint64_t tag) {
  const auto kind = static_cast<Event>(tag >> 32);
  const int rank = static_cast<int>(tag & 0xffffffffu);
  switch (kind) {
    case kSignals: return on_signals();
    case kSinkOut: return out_.flush();
    case kSinkErr: return err_.flush();
    case kOutside: return on_outside();
    default: break;
  }
  Member& member = members_[static_cast<size_t>(rank)];
  if (kind == kEnd && !member.ending) on_rank_end(rank);
  if (kind == kOut && member.out->open()) on_stream(*member.out, false);
  if (kind == kErr && member.err->open()) on_stream(*member.err, false);
}

void Job::on_stream(LineStream& stream, bool to_the_end) {
  if (stream.read_some(to_the_end ? kReadAtEnd : kReadAtOnce)) return;
  stream.flush_partial(true);
  stream.close();
}

void Job::on_timers() {
  const TimePoint now = Clock::now();
  for (Member& member : members_)
    for (LineStream* stream : {member.out.get(), member.err.get()})
      if (stream != nullptr && stream->partial_deadline().value_or(TimePoint::max()) <= now)
        stream->flush_partial(false);
  settle_doubt(false);
  if (running_ == 0) return;
  if (!stopping_ && options_.time_limit && now >= time_limit_end()) {
    say(fmt::format("launcher: time limit of {:g} s reached; stopping {}", *options_.time_limit,
                    counted(running_, "rank")));
    if (options_.on_stop)
      options_.on_stop(fmt::format("time limit of {:g} s reached", *options_.time_limit),
                       kExitTimeLimit);
    stop(kExitTimeLimit, SIGTERM);
  }
  if (stopping_ && !killing_ && now >= kill_at_) kill_ranks();
}

/// Full sinks are watched until they take more; meanwhile the ranks' output stays in their pipes.
void Job::update_sinks() {
  Sink* const sinks[2] = {&out_, &err_};
  for (int i = 0; i < 2; ++i) {
    const bool wanted = sinks[i]->backlog() > 0;
    if (wanted == sink_watched_[i]) continue;
    watch(sinks[i]->fd(), tag_of(i == 0 ? kSinkOut : kSinkErr), EPOLLOUT,
          wanted ? EPOLL_CTL_ADD : EPOLL_CTL_DEL);
    sink_watched_[i] = wanted;
  }
  const size_t backlog = std::max(out_.backlog(), err_.backlog());
  const bool pause = streams_paused_ ? backlog > kLowBacklog : backlog > kFullBacklog;
  if (pause == streams_paused_) return;
  streams_paused_ = pause;
  for (int rank = 0; rank < size(); ++rank) {
    const Member& member = members_[static_cast<size_t>(rank)];
    const uint32_t events = pause ? 0u : uint32_t{EPOLLIN};
    if (member.out && member.out->open() && member.out->waits())
      watch(member.out->fd(), tag_of(kOut, rank), events, EPOLL_CTL_MOD);
    if (member.err && member.err->open() && member.err->waits())
      watch(member.err->fd(), tag_of(kErr, rank), events, EPOLL_CTL_MOD);
  }
}

void Job::on_signals() {
  signalfd_siginfo info;
  while (::read(signals_.get(), &info, sizeof info) == sizeof info)
    on_signal(static_cast<int>(info.ssi_signo), static_cast<pid_t>(info.ssi_pid));
}

void Job::on_signal(int signal, pid_t sender) {
  switch (signal) {
    case SIGCHLD: {
      // An orphan; ranks are reaped at the end. Signals that came together leave some for sweep().
      const bool is_rank = std::any_of(members_.begin(), members_.end(),
                                       [&](const Member& member) { return member.pid == sender; });
      if (!is_rank) ::waitpid(sender, nullptr, WNOHANG);
      return;
    }
    case SIGUSR1:
    case SIGUSR2: return signal_groups(signal, false);
    case SIGTSTP: return suspend();
    default: break;
  }
  if (running_ == 0) {  // only output is left, which nobody reads
    abandoned_ = true;
    if (std::exchange(awaiting_, false)) say_first_failure();
    return;
  }
  if (stopping_ && (signal == SIGINT || signal == SIGQUIT)) {
    if (!killing_)
      say(fmt::format("launcher: {} again; killing {}", signal_name(signal),
                      counted(running_, "rank")));
    return kill_ranks();
  }
  if (stopping_) return signal_groups(signal, false);
  say(fmt::format("launcher: {} passed on to {}; those still there after {:g} s are killed",
                  signal_name(signal), counted(running_, "rank"), options_.grace));
  if (options_.on_stop) options_.on_stop(signal_name(signal), 128 + signal);
  stop(128 + signal, signal);
}

/// Ctrl-Z stops the ranks with the launcher; both go on together.
void Job::suspend() {
  signal_groups(SIGTSTP, false);
  ::raise(SIGSTOP);
  signal_groups(SIGCONT, false);
}

void Job::on_rank_end(int rank) {
  if (!record_end(rank) || stopping_) return;
  if (doubt_) {
    if (rank == doubt_->suspect) settle_doubt(false);
  } else if (!members_[static_cast<size_t>(rank)].ending->ok()) {
    on_failure(culprit(rank));
  }
}

/// Notes how a rank ended; false where it has not.
bool Job::record_end(int rank) {
  Member& member = members_[static_cast<size_t>(rank)];
  member.ending = ending_of(member.pid);
  if (!member.ending) return false;
  --running_;
  watch(member.pidfd.get(), 0, 0, EPOLL_CTL_DEL);
  // What it wrote before it died comes before what is said about its death.
  for (LineStream* stream : {member.out.get(), member.err.get()})
    if (stream != nullptr && stream->open()) on_stream(*stream, true);
  if (options_.on_end) options_.on_end(rank_of(rank), describe_member(rank));
  return true;
}

// Note [Who died first]
// Events come in the order of the deaths, with one gap: the kernel closes a dying process's files
// before it tells its parent. On busy cores a peer that sees a closed socket may give up, exit and
// be reported in between. So when a rank exits by itself, those that are dying at this moment are
// waited for, and one that a signal killed goes before it.
int Job::culprit(int rank) {
  if (members_[static_cast<size_t>(rank)].ending->by_signal) return rank;
  for (int other = 0; other < size(); ++other) {
    const Member& member = members_[static_cast<size_t>(other)];
    if (member.ending || !is_exiting(member.pid)) continue;
    const TimePoint deadline = deadline_after(kDyingSeconds);
    if (dist::detail::wait_ready(member.pidfd.get(), POLLIN, deadline) && record_end(other) &&
        member.ending->by_signal)
      return other;
  }
  return rank;
}

// Note [Who was lost]
// A rank that leaves its group, by an exception that unwinds its stack or by an early end with
// exit code 0, is missed by the others before the launcher sees it end. What ended their group is
// in their crash records: with the process that was lost. So when the first rank to fail says that
// it lost another one, that one is waited for, for a while, and followed to whom it has lost in
// turn. If it failed, it is the first failure; if it ended with 0, it is still what the others
// failed for; if it goes on, the failed rank has nobody to blame.

/// The rank of this host that `rank` says it lost.
std::optional<int> Job::lost_by(int rank) const {
  const auto slot = records_->read(rank);
  const auto ended = slot ? group_end(*slot) : std::nullopt;
  for (int other = 0; ended && ended->lost > 0 && other < size(); ++other)
    if (other != rank && members_[static_cast<size_t>(other)].pid == ended->lost) return other;
  return std::nullopt;
}

void Job::on_failure(int rank) {
  int cause = rank;
  for (int steps = 0; steps < size(); ++steps) {
    const auto& ending = *members_[static_cast<size_t>(cause)].ending;
    // abort() is how an uncaught error ends; other signals come from elsewhere.
    const bool by_error = !ending.ok() && (!ending.by_signal || ending.value == SIGABRT);
    const auto suspect = by_error ? lost_by(cause) : std::nullopt;
    if (!suspect) break;
    if (!members_[static_cast<size_t>(*suspect)].ending) record_end(*suspect);
    if (!members_[static_cast<size_t>(*suspect)].ending) {
      if (!doubt_ || doubt_->suspect != *suspect)
        doubt_ = Doubt{rank, *suspect, deadline_after(kDoubtSeconds)};
      return;
    }
    cause = *suspect;
  }
  doubt_.reset();
  report_first_failure(rank, cause);
}

/// Decides when the suspect has ended, the time is over, or nothing more can happen.
void Job::settle_doubt(bool at_end) {
  if (!doubt_ || stopping_) return;
  const Doubt doubt = *doubt_;
  if (members_[static_cast<size_t>(doubt.suspect)].ending) return on_failure(doubt.failed);
  if (!at_end && Clock::now() < doubt.until) return;
  doubt_.reset();
  report_first_failure(doubt.failed, doubt.failed);
}

void Job::on_outside() {
  const auto end = options_.outside ? options_.outside() : std::nullopt;
  if (end && end->signal != 0) return signal_groups(end->signal, false);
  if (end && end->at_once && stopping_) kill_ranks();
  if (!end || (stopping_ && !awaiting_) || (running_ == 0 && !awaiting_)) return;
  const bool asked = std::exchange(awaiting_, false);
  if (asked && end->own) return say_first_failure();
  first_failed_ = -1;
  elsewhere_ = true;
  if (!options_.told) say(end->line);
  exit_code_ = end->exit_code;
  if (asked) return;
  stop(end->exit_code, SIGTERM);
  if (end->at_once) kill_ranks();
}

void Job::stop(int exit_code, int signal) {
  stopping_ = true;
  doubt_.reset();
  exit_code_ = exit_code;
  kill_at_ = deadline_after(options_.grace);
  for (Member& member : members_) member.was_stopped = !member.ending && !ending_of(member.pid);
  signal_groups(signal, true);
  signal_groups(SIGCONT, false);  // a stopped rank would not see the signal
}

void Job::kill_ranks() {
  killing_ = true;
  signal_groups(SIGKILL, false);
}

/// Ended ranks are still to be reaped, so their groups' numbers are still theirs.
void Job::signal_groups(int signal, bool ended_too) {
  if (swept_) return;
  for (const Member& member : members_)
    if (member.pid > 0 && (ended_too || !member.ending)) ::kill(-member.pid, signal);
}

void Job::sweep() {
  if (swept_) return;
  signal_groups(SIGKILL, true);
  swept_ = true;
  for (const Member& member : members_)
    if (member.ending) ::waitpid(member.pid, nullptr, WNOHANG);
  if (guardian_) guardian_->dismiss();
  immortal_ = kill_children(strangers_, kSweepSeconds);
}

void Job::finish() {
  sweep();
  // All writers are dead now: what is in the pipes is all there will be.
  for (Member& member : members_)
    for (LineStream* stream : {member.out.get(), member.err.get()})
      if (stream != nullptr && stream->open()) {
        on_stream(*stream, true);
        stream->flush_partial(true);
        stream->close();
      }
  say_rest();
  drain_sinks();
}

void Job::say(const std::string& line) {
  err_.write(this, "", line + "\n");
  err_.flush();
}

/// Waits for a slow reader of the launcher's own output; Ctrl-C gives it up.
void Job::drain_sinks() {
  while (!abandoned_ && (out_.backlog() > 0 || err_.backlog() > 0)) step();
  if (out_.error() == 0) return;
  say(lost_output_text(out_.error()));
  while (!abandoned_ && err_.backlog() > 0) step();
}

}  // namespace weft::inline v0::launcher
