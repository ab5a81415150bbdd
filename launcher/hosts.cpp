#include <weft/launcher/hosts.hpp>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <utility>

#include <weft/core/base/check.hpp>
#include <weft/core/base/env.hpp>
#include <weft/dist/store/direct.hpp>
#include <weft/dist/store/host.hpp>
#include <weft/launcher/coordinator.hpp>
#include <weft/launcher/ending.hpp>
#include <weft/launcher/error.hpp>
#include <weft/launcher/host_plan.hpp>
#include <weft/launcher/launch.hpp>
#include <weft/launcher/relay.hpp>

namespace weft::inline v0::launcher {

namespace {

using dist::detail::deadline_after;
using dist::detail::poll_timeout;

constexpr size_t kReadAtOnce = 256 * 1024;  // bytes of one stream
constexpr double kLeave = 5;                // seconds to end once the job is over

/// The launcher of one host, or the ssh that leads to it.
struct Remote {
  std::string host;
  pid_t pid = -1;
  Fd pidfd, input;
  std::unique_ptr<LineStream> out, err;
  std::optional<Ending> ending;
};

std::pair<Fd, Fd> make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0)
    weft::detail::fail<IoError>("launcher: pipe: {}", std::strerror(errno));
  return {Fd(ends[0]), Fd(ends[1])};
}

class Hosts {
 public:
  explicit Hosts(const LaunchOptions& options)
      : options_(options),
        setup_(prepare_launch(options)),
        plan_(plan_hosts(options)),
        dealt_(deals_ranks(plan_.hosts, options)),
        out_(1),
        err_(2),
        one_output_(same_file(1, 2)) {
    const sigset_t handled = Job::handled_signals();
    signals_ = Fd(::signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK));
    auto [wake, waker] = make_pipe();
    ::fcntl(wake.get(), F_SETFL, O_NONBLOCK);
    ::fcntl(waker.get(), F_SETFL, O_NONBLOCK);
    wake_ = std::move(wake);
    waker_ = std::move(waker);
  }

  int run() {
    coordinate();
    for (size_t i = 0; i < plan_.hosts.size(); ++i) start(i);
    while (running_ > 0) step();
    for (Remote& remote : remotes_) drain(remote);
    for (const std::string& line : coordinator_->reports()) say(line);
    coordinator_.reset();
    drain_sinks();
    const int code = exit_code_.value_or(interrupted_.value_or(kExitLost));
    return code == 0 && (out_.error() != 0 || err_.error() != 0) ? kExitLost : code;
  }

 private:
  void coordinate() {
    const std::string address = meeting_address(options_, plan_, meeting_host(options_, plan_));
    secret_ = env::get("WEFT_TOKEN") || env::get("WEFT_TOKEN_FILE")
                  ? dist::detail::token_from_environment()
                  : random_token();
    job_id_ = options_.rdzv_id.empty() ? random_id() : options_.rdzv_id;
    CoordinatorOptions options;
    const bool elastic = options_.nnodes_min < options_.nnodes_max;
    options.membership.max_nodes = static_cast<int>(plan_.hosts.size());
    options.membership.min_nodes = elastic ? options_.nnodes_min : options.membership.max_nodes;
    options.membership.total_ranks = dealt_ ? *options_.total_ranks : 0;
    options.membership.max_restarts = options_.max_restarts;
    options.membership.join_timeout =
        static_cast<double>(to_int(options_.setting("join_timeout").value).value_or(120));
    options.membership.version = WEFT_VERSION;
    options.address = address;
    options.ports = {options_.rdzv_endpoint ? options_.rdzv_endpoint->port : 0};
    options.token = dist::detail::token_of_job(secret_, job_id_);
    options.job_id = job_id_;
    options.on_action = [this](const Action& action) {
      {
        const std::lock_guard lock(mutex_);
        actions_.push_back(action);
      }
      const ssize_t written = ::write(waker_.get(), "", 1);
      if (written < 0) return;  // full: it is awake already
    };
    coordinator_.emplace(std::move(options));
    endpoint_ = dist::detail::endpoint_name(address, coordinator_->port());
  }

  void start(size_t index) {
    Remote& remote = remotes_.emplace_back();
    remote.host = plan_.hosts[index].host;
    const std::vector<std::string> words = way_to(options_, remote.host);
    std::vector<char*> argv;
    for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
    argv.push_back(nullptr);
    auto [in, input] = make_pipe();
    auto [out, out_end] = make_pipe();
    auto [err, err_end] = make_pipe();
    ::fcntl(input.get(), F_SETPIPE_SZ, 1 << 20);
    remote.pid = ::fork();
    if (remote.pid == 0) {
      ::setpgid(0, 0);
      ::prctl(PR_SET_PDEATHSIG, SIGTERM);
      ::dup2(in.get(), 0);
      ::dup2(out_end.get(), 1);
      ::dup2(err_end.get(), 2);
      ::sigprocmask(SIG_SETMASK, &setup_.context.signal_mask, nullptr);
      ::sigaction(SIGPIPE, &setup_.context.pipe_action, nullptr);
      ::execv(argv[0], argv.data());
      ::_exit(kExitNotExecutable);
    }
    if (remote.pid < 0) weft::detail::fail<IoError>("launcher: fork: {}", std::strerror(errno));
    ++running_;
    remote.pidfd = Fd(static_cast<int>(::syscall(SYS_pidfd_open, remote.pid, 0)));
    for (const int fd : {out.get(), err.get()}) ::fcntl(fd, F_SETFL, O_NONBLOCK);
    remote.out = std::make_unique<LineStream>(std::move(out),
                                              StreamOptions{.sink = one_output_ ? &err_ : &out_});
    remote.err =
        std::make_unique<LineStream>(std::move(err), StreamOptions{.sink = &err_, .tail_lines = 3});
    remote.input = std::move(input);
    const auto node = static_cast<int>(index);
    const Orders orders{secret_, std::filesystem::current_path(),
                        node_arguments(options_, static_cast<int>(plan_.hosts.size()), node,
                                       dealt_ ? 0 : plan_.ranks[index], endpoint_, job_id_)};
    const std::string bytes = pack_orders(orders);
    for (size_t done = 0; done < bytes.size();) {
      const ssize_t sent = ::write(remote.input.get(), bytes.data() + done, bytes.size() - done);
      if (sent < 0 && errno != EINTR) break;  // it is gone, which its end tells
      if (sent > 0) done += static_cast<size_t>(sent);
    }
  }

  void step() {
    std::vector<pollfd> ends = {{signals_.get(), POLLIN, 0}, {wake_.get(), POLLIN, 0}};
    const bool full = std::max(out_.backlog(), err_.backlog()) > kFullBacklog;
    for (const Remote& remote : remotes_) {
      ends.push_back({remote.ending ? -1 : remote.pidfd.get(), POLLIN, 0});
      ends.push_back({remote.out->open() && !full ? remote.out->fd() : -1, POLLIN, 0});
      ends.push_back({remote.err->open() && !full ? remote.err->fd() : -1, POLLIN, 0});
    }
    if (out_.backlog() > 0) ends.push_back({out_.fd(), POLLOUT, 0});
    if (err_.backlog() > 0) ends.push_back({err_.fd(), POLLOUT, 0});
    auto next = leave_until_.value_or(TimePoint::max());
    for (const Remote& remote : remotes_)
      for (const LineStream* stream : {remote.out.get(), remote.err.get()})
        next = std::min(next, stream->partial_deadline().value_or(TimePoint::max()));
    const int wait = next == TimePoint::max() ? -1 : poll_timeout(next);
    if (::poll(ends.data(), ends.size(), wait) < 0 && errno != EINTR)
      weft::detail::fail<IoError>("launcher: poll: {}", std::strerror(errno));
    if (ends[0].revents != 0) on_signals();
    if (ends[1].revents != 0) on_actions();
    for (size_t i = 0; i < remotes_.size(); ++i) {
      Remote& remote = remotes_[i];
      for (size_t k : {size_t{1}, size_t{2}}) {
        LineStream& stream = k == 1 ? *remote.out : *remote.err;
        if (ends[2 + 3 * i + k].revents != 0 && stream.open() && !stream.read_some(kReadAtOnce)) {
          stream.flush_partial(true);
          stream.close();
        }
        if (stream.partial_deadline().value_or(TimePoint::max()) <= Clock::now())
          stream.flush_partial(false);
      }
      if (ends[2 + 3 * i].revents != 0 && !remote.ending) on_end(remote);
    }
    out_.flush();
    err_.flush();
    if (leave_until_ && Clock::now() >= *leave_until_) kill_all(SIGKILL);
  }

  void on_end(Remote& remote) {
    siginfo_t info{};
    if (::waitid(P_PID, static_cast<id_t>(remote.pid), &info, WEXITED | WNOHANG) != 0 ||
        info.si_pid == 0)
      return;
    remote.ending = Ending{info.si_code != CLD_EXITED, info.si_status};
    --running_;
    drain(remote);
    // An elastic job goes on with the other hosts, once the store has noticed.
    const bool elastic = options_.nnodes_min < options_.nnodes_max;
    if (exit_code_ || (elastic && running_ > 0)) return;
    const int code = remote.ending->exit_code();
    const bool said = code == kExitUsage || code == kExitNotExecutable || code == kExitNotFound;
    const auto& tail = remote.err->tail();
    coordinator_->abort(
        {.text = fmt::format("the launcher on {} {}{}{}", remote.host,
                             remote.ending->by_signal
                                 ? "was killed by " + signal_name(remote.ending->value)
                                 : fmt::format("could not start, or ended early, with {}", code),
                             tail.empty() ? "" : ": ", tail.empty() ? "" : tail.back()),
         .code = said ? code : kExitLost});
  }

  void drain(Remote& remote) {
    for (LineStream* stream : {remote.out.get(), remote.err.get()}) {
      if (!stream->open()) continue;
      stream->read_some(kReadAtOnce);
      stream->flush_partial(true);
      stream->close();
    }
  }

  void on_actions() {
    char bytes[64];
    while (::read(wake_.get(), bytes, sizeof bytes) > 0) continue;
    std::vector<Action> actions;
    {
      const std::lock_guard lock(mutex_);
      actions.swap(actions_);
    }
    for (const Action& action : actions) switch (action.kind) {
        case Action::Kind::notice:
          say("launcher: waiting for all hosts; " + action.cause.text);
          break;
        case Action::Kind::start: told_ = false; break;
        case Action::Kind::stop:
          if (!std::exchange(told_, true)) say(line_of(action.cause, ""));
          break;
        case Action::Kind::refuse: break;  // whoever it is says so
        case Action::Kind::finish:
          if (!told_ && !action.cause.text.empty()) say(line_of(action.cause, ""));
          for (const std::string& line : action.lines) say("launcher: " + line);
          exit_code_ = action.cause.code;
          leave_until_ = deadline_after(options_.grace + kLeave);
          for (Remote& remote : remotes_) remote.input.reset();
          break;
      }
  }

  void on_signals() {
    signalfd_siginfo info;
    while (::read(signals_.get(), &info, sizeof info) == sizeof info) {
      const int signal = static_cast<int>(info.ssi_signo);
      if (signal == SIGCHLD) continue;
      if (signal == SIGUSR1 || signal == SIGUSR2) {
        if (coordinator_) coordinator_->signal(signal);
        continue;
      }
      if (signal == SIGTSTP) {
        ::raise(SIGSTOP);
        continue;
      }
      if (interrupted_) {
        abandoned_ = true;
        kill_all(SIGKILL);
        continue;
      }
      interrupted_ = 128 + signal;
      abandoned_ = !coordinator_;  // only output is left, which nobody reads
      told_ = true;
      say(fmt::format("launcher: {}; ending the job on all hosts", signal_name(signal)));
      if (coordinator_)
        coordinator_->abort(
            {.text = signal_name(signal) + " to the launcher", .code = 128 + signal});
    }
  }

  void kill_all(int signal) {
    for (const Remote& remote : remotes_)
      if (!remote.ending) ::kill(-remote.pid, signal);
    leave_until_.reset();
  }

  void say(const std::string& line) {
    err_.write(this, "", line + "\n");
    err_.flush();
  }

  void drain_sinks() {
    while (!abandoned_ && (out_.backlog() > 0 || err_.backlog() > 0)) flush_slowly();
    if (out_.error() == 0) return;
    say(lost_output_text(out_.error()));
    while (!abandoned_ && err_.backlog() > 0) flush_slowly();
  }

  void flush_slowly() {
    pollfd ends[2] = {{out_.backlog() > 0 ? out_.fd() : -1, POLLOUT, 0},
                      {err_.backlog() > 0 ? err_.fd() : -1, POLLOUT, 0}};
    ::poll(ends, 2, -1);
    out_.flush();
    err_.flush();
    on_signals();
  }

  const LaunchOptions& options_;
  LaunchSetup setup_;
  HostPlan plan_;
  bool dealt_;  // anew for each attempt, among the hosts in it
  Sink out_, err_;
  bool one_output_;
  Fd signals_, wake_, waker_;
  std::string secret_, job_id_, endpoint_;
  std::mutex mutex_;
  std::vector<Action> actions_;
  std::optional<Coordinator> coordinator_;
  std::vector<Remote> remotes_;
  int running_ = 0;
  bool told_ = false, abandoned_ = false;
  std::optional<int> interrupted_;  // the exit code of a signal to this launcher
  std::optional<int> exit_code_;
  std::optional<TimePoint> leave_until_;
};

}  // namespace

int launch_over_ssh(const LaunchOptions& options) { return Hosts(options).run(); }

}  // namespace weft::inline v0::launcher
