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
enum Kind : uint32_t { kSignals, kEnd, kOut, kErr, kSinkOut, kSinkErr };
uint64_t tag_of(Kind kind, int rank = 0) {
  return uint64_t{kind} << 32 | static_cast<uint32_t>(rank);
}

constexpr size_t kTailLines = 20;           // of a failed rank's stderr, said again at the end
constexpr size_t kReadAtOnce = 256 * 1024;  // bytes of one stream before others have their turn
constexpr size_t kReadAtEnd = 16u << 20;    // bytes of one stream that its rank's death brings
constexpr size_t kFullBacklog = 4u << 20;   // bytes unwritten at which the ranks' output waits
constexpr size_t kLowBacklog = 1u << 20;
constexpr double kSweepSeconds = 5;    // for processes that even SIGKILL does not end at once
constexpr double kDyingSeconds = 0.5;  // for a rank that is seen dying to be dead

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
void reserve_descriptors(int ranks) {
  const auto needed = static_cast<rlim_t>(32 + 5 * ranks);
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= needed) return;
  if (limit.rlim_max < needed)
    throw LaunchError(kExitUsage, fmt::format("{} ranks need {} open files, the limit is {}; raise "
                                              "it (ulimit -n) or start fewer ranks",
                                              ranks, needed, limit.rlim_max));
  limit.rlim_cur = needed;
  ::setrlimit(RLIMIT_NOFILE, &limit);  // where it is refused, the first call that needs it says so
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
  reserve_descriptors(size());
  records_.emplace(size());
  options_.context.crash_fd = records_->fd();
  for (int rank = 0; rank < size(); ++rank) start_rank(rank);
  report_end_.reset();
  while (running_ > 0) step();
  finish();
  return exit_code_;
}

/// One rank alone has the launcher's own outputs, so that it sees a terminal where there is one.
/// Rank 0 reads the launcher's input, unless it is a terminal, which a background group may not
/// read.
Streams Job::make_streams(Member& member, int rank, std::vector<Fd>& child_ends) {
  Streams streams;
  streams.in = rank == 0 && ::isatty(0) == 0 ? 0 : null_.get();
  if (size() == 1) return streams;
  const auto add = [&](Sink& sink, Kind kind, size_t tail) {
    auto [read_end, write_end] = make_pipe();
    ::fcntl(read_end.get(), F_SETFL, O_NONBLOCK);
    watch(read_end.get(), tag_of(kind, rank), EPOLLIN, EPOLL_CTL_ADD);
    child_ends.push_back(std::move(write_end));
    return std::make_unique<LineStream>(std::move(read_end), sink, fmt::format("[{}] ", rank),
                                        tail);
  };
  member.out = add(out(), kOut, 0);
  member.err = add(err(), kErr, kTailLines);
  streams.out = child_ends[0].get();
  streams.err = child_ends[1].get();
  return streams;
}

void Job::start_rank(int rank) {
  Member& member = members_[static_cast<size_t>(rank)];
  std::vector<Fd> child_ends;
  const Streams streams = make_streams(member, rank, child_ends);
  std::vector<std::string> environment = options_.environments[static_cast<size_t>(rank)];
  if (records_->fd() >= 0) environment.push_back(fmt::format("WEFT_CRASH_FD={}", records_->fd()));
  member.pid = spawn(options_.context, rank, environment, streams);
  if (member.pid < 0)
    throw LaunchError(kExitUsage,
                      fmt::format("cannot start rank {}: {}; raise the limit on processes (ulimit "
                                  "-u) or start fewer ranks",
                                  rank, std::strerror(errno)));
  ++running_;
  member.pidfd = Fd(static_cast<int>(::syscall(SYS_pidfd_open, member.pid, 0)));
  if (!member.pidfd)
    throw LaunchError(kExitUsage, fmt::format("cannot watch rank {}: pidfd_open: {}; Linux 5.4 or "
                                              "later is needed",
                                              rank, std::strerror(errno)));
  watch(member.pidfd.get(), tag_of(kEnd, rank), EPOLLIN, EPOLL_CTL_ADD);
}

int Job::wait_milliseconds() const {
  TimePoint next = TimePoint::max();
  if (running_ > 0 && options_.time_limit && !stopping_)
    next = start_ + dist::detail::to_duration(*options_.time_limit);
  if (running_ > 0 && stopping_ && !killing_) next = kill_at_;
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
}

void Job::on_event(uint64_t tag) {
  const auto kind = static_cast<Kind>(tag >> 32);
  const int rank = static_cast<int>(tag & 0xffffffffu);
  switch (kind) {
    case kSignals: return on_signals();
    case kSinkOut: return out_.flush();
    case kSinkErr: return err_.flush();
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
  if (running_ == 0) return;
  if (!stopping_ && options_.time_limit &&
      now >= start_ + dist::detail::to_duration(*options_.time_limit)) {
    say(fmt::format("launcher: time limit of {:g} s reached; stopping {} ranks",
                    *options_.time_limit, running_));
    stop(kExitTimeLimit, SIGTERM);
  }
  if (stopping_ && !killing_ && now >= kill_at_) {
    killing_ = true;
    signal_groups(SIGKILL, false);
  }
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
    if (member.out && member.out->open())
      watch(member.out->fd(), tag_of(kOut, rank), events, EPOLL_CTL_MOD);
    if (member.err && member.err->open())
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
    return;
  }
  if (stopping_ && (signal == SIGINT || signal == SIGQUIT)) {
    if (!killing_)
      say(fmt::format("launcher: {} again; killing {} ranks", signal_name(signal), running_));
    killing_ = true;
    return signal_groups(SIGKILL, false);
  }
  if (stopping_) return signal_groups(signal, false);
  say(fmt::format("launcher: {} passed on to {} ranks; those still there after {:g} s are killed",
                  signal_name(signal), running_, options_.grace));
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
  if (!members_[static_cast<size_t>(rank)].ending->ok()) report_first_failure(culprit(rank));
}

/// Notes how a rank ended; false where it has not.
bool Job::record_end(int rank) {
  Member& member = members_[static_cast<size_t>(rank)];
  siginfo_t info{};
  if (::waitid(P_PID, static_cast<id_t>(member.pid), &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
      info.si_pid == 0)
    return false;
  member.ending = Ending{info.si_code != CLD_EXITED, info.si_status};
  --running_;
  watch(member.pidfd.get(), 0, 0, EPOLL_CTL_DEL);
  // What it wrote before it died comes before what is said about its death.
  for (LineStream* stream : {member.out.get(), member.err.get()})
    if (stream != nullptr && stream->open()) on_stream(*stream, true);
  if (options_.on_end) options_.on_end(rank, describe(rank, member.pid, *member.ending));
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

void Job::stop(int exit_code, int signal) {
  stopping_ = true;
  exit_code_ = exit_code;
  kill_at_ = deadline_after(options_.grace);
  signal_groups(signal, true);
  signal_groups(SIGCONT, false);  // a stopped rank would not see the signal
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

/// Waits for a slow reader of the launcher's own output; Ctrl-C gives it up.
void Job::drain_sinks() {
  while (!abandoned_ && (out_.backlog() > 0 || err_.backlog() > 0)) step();
}

}  // namespace weft::inline v0::launcher
