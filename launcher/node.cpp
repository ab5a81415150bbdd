#include <weft/launcher/node.hpp>

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <optional>
#include <utility>

#include <weft/core/base/check.hpp>
#include <weft/core/base/env.hpp>
#include <weft/dist/store/direct.hpp>
#include <weft/dist/store/host.hpp>
#include <weft/launcher/coordinator.hpp>
#include <weft/launcher/ending.hpp>
#include <weft/launcher/error.hpp>
#include <weft/launcher/launch.hpp>
#include <weft/launcher/node_link.hpp>
#include <weft/launcher/option_values.hpp>
#include <weft/launcher/refusal.hpp>

namespace weft::inline v0::launcher {

namespace {

using dist::detail::Clock;
using dist::detail::deadline_after;
using dist::detail::Fd;
using dist::detail::poll_timeout;
using dist::detail::TimePoint;

constexpr double kFarewell = 2;  // seconds for the last message to go out
constexpr double kEnding = 10;   // seconds for node 0 to answer a signal

constexpr const char* kToLauncher = " to the launcher";

void say(const std::string& line) { std::fprintf(stderr, "%s\n", line.c_str()); }

}  // namespace

Endpoint find_endpoint(const LaunchOptions& options) {
  const Endpoint endpoint = options.rdzv_endpoint.value_or(Endpoint{});
  if (endpoint.host.empty())
    refuse_setting(
        options.setting("nnodes"),
        ": where do the hosts meet? Give all of them the same --rdzv_endpoint HOST:PORT, "
        "an address of the first one, or use --hostfile FILE");
  const Setting& port = options.setting("main_process_port");
  if (port.layer == Layer::environment && !options.given("rdzv_endpoint")) check_value(port);
  return endpoint;
}

void check_shares(const LaunchOptions& options) {
  if (options.total_ranks && *options.total_ranks < options.nnodes_max)
    refuse_setting(options.setting("num_processes"),
                   ": fewer ranks than {} hosts; give at least one for each", options.nnodes_max);
}

namespace {

class Node {
 public:
  explicit Node(const LaunchOptions& options)
      : options_(options), endpoint_(find_endpoint(options)), setup_(prepare_launch(options)) {
    const sigset_t handled = Job::handled_signals();
    signals_ = Fd(::signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!signals_) weft::detail::fail<IoError>("launcher: signalfd: {}", std::strerror(errno));
    const std::string name = options.rdzv_id.empty() ? "job" : options.rdzv_id;
    const std::string secret = dist::detail::token_from_environment();
    token_ = dist::detail::token_of_job(secret, name);
    ports_ = endpoint_.port != 0 ? std::vector<int>{endpoint_.port}
                                 : dist::detail::ports_of_job(secret, name);
    hello_ = {.id = random_id(),
              .host = dist::detail::host_name(),
              .version = WEFT_VERSION,
              .nodes = nodes_text(),
              .node_rank = options.node_rank,
              .ranks = options.ranks,
              .total = options.total_ranks.value_or(0)};
    check_shares(options);
    if (options.controlled) take_control_line();
    if (options.time_limit) deadline_ = deadline_after(*options.time_limit);
  }

  int run() {
    try_to_coordinate();
    link_.emplace(
        NodeLinkOptions{.host = coordinator_ ? bound_ : endpoint_.host,
                        .ports = coordinator_ ? std::vector<int>{coordinator_->port()} : ports_,
                        .token = token_,
                        .join_timeout = join_timeout(),
                        .hello = hello_});
    while (!exit_code_) step();
    if (link_->established()) link_->farewell(kFarewell);
    link_.reset();
    if (coordinator_)
      for (const std::string& line : coordinator_->reports()) say(line);
    return *exit_code_;
  }

 private:
  std::string nodes_text() const {
    return options_.nnodes_min == options_.nnodes_max
               ? std::to_string(options_.nnodes_max)
               : fmt::format("{}:{}", options_.nnodes_min, options_.nnodes_max);
  }

  double join_timeout() const {
    return static_cast<double>(to_int(options_.setting("join_timeout").value).value_or(120));
  }

  /// Node 0, or whoever may be it, hosts the store where the endpoint is this host's and free. If
  /// another launcher has it, that one decides what is to be done with this one.
  void try_to_coordinate() {
    if (options_.node_rank.value_or(0) != 0 || options_.controlled) return;
    if (!dist::detail::is_this_host(endpoint_.host)) {
      if (options_.node_rank)
        say(
            fmt::format("launcher: this is node 0, but {} is not an address of this host, {}; "
                        "looking for another launcher there",
                        endpoint_.host, hello_.host));
      return;
    }
    bound_ = dist::detail::address_to_serve(endpoint_.host);
    CoordinatorOptions options;
    options.membership.min_nodes = options_.nnodes_min;
    options.membership.max_nodes = options_.nnodes_max;
    options.membership.total_ranks = options_.total_ranks.value_or(0);
    options.membership.max_restarts = options_.max_restarts;
    options.membership.join_timeout = join_timeout();
    options.membership.version = WEFT_VERSION;
    options.address = bound_;
    options.ports = ports_;
    options.token = token_;
    options.job_id = options_.rdzv_id.empty() ? random_id() : options_.rdzv_id;
    try {
      coordinator_.emplace(std::move(options));
      hello_.hosts_store = true;
    } catch (const LaunchError& error) {
      busy_ = error.what();  // told where no launcher answers there
    }
  }

  /// A launcher that another one has started: standard input is the line to that one, whose end is
  /// the job's here, and no rank's input.
  void take_control_line() {
    control_ = Fd(::fcntl(0, F_DUPFD_CLOEXEC, 3));
    const Fd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (!control_ || !null || ::dup2(null.get(), 0) != 0)
      weft::detail::fail<IoError>("launcher: /dev/null: {}", std::strerror(errno));
  }

  /// Whether the launcher that started this one, or the way to it, is gone.
  bool cut_off() const {
    pollfd end{control_.get(), POLLIN, 0};
    return control_ && ::poll(&end, 1, 0) > 0;
  }

  void step() {
    pollfd ends[3] = {
        {signals_.get(), POLLIN, 0}, {link_->fd(), POLLIN, 0}, {control_.get(), POLLIN, 0}};
    const int wait = deadline_ ? poll_timeout(*deadline_) : -1;
    if (::poll(ends, 3, wait) < 0 && errno != EINTR)
      weft::detail::fail<IoError>("launcher: poll: {}", std::strerror(errno));
    if (ends[0].revents != 0) on_signals();
    if (ends[1].revents != 0)
      if (const auto event = link_->take()) on_event(*event);
    if (cut_off() && !exit_code_) exit_code_ = kExitLost;  // it knows why, if it still is
    if (deadline_ && !exit_code_ && Clock::now() >= *deadline_) on_deadline();
  }

  void on_signals() {
    signalfd_siginfo info;
    while (::read(signals_.get(), &info, sizeof info) == sizeof info) {
      const int signal = static_cast<int>(info.ssi_signo);
      if (signal == SIGCHLD || signal == SIGUSR1 || signal == SIGUSR2) continue;
      if (signal == SIGTSTP) {
        ::raise(SIGSTOP);
        continue;
      }
      if (ending_) {
        exit_code_ = *ending_;
        return;
      }
      leaving_ = takes_node_away(128 + signal);
      say(fmt::format("launcher: {}; ending the job {}", signal_name(signal),
                      leaving_ ? "on this host" : "on all hosts"));
      end_job(signal_name(signal) + kToLauncher, 128 + signal);
    }
  }

  void on_deadline() {
    if (ending_) {  // nobody has answered
      exit_code_ = *ending_;
      return;
    }
    const std::string text = fmt::format("time limit of {:g} s reached", *options_.time_limit);
    say("launcher: " + text);
    end_job(text, kExitTimeLimit);
  }

  void end_job(const std::string& text, int code) {
    ending_ = code;
    told_ = true;
    if (!link_->established()) {  // nobody else knows of this launcher yet
      exit_code_ = code;
      return;
    }
    deadline_ = deadline_after(std::min(kEnding, options_.grace));
    link_->send({leaving_ ? "leave" : "stop", text, std::to_string(code)});
    if (leaving_) exit_code_ = code;
  }

  /// Whether what ends this launcher with `code` concerns its host alone: schedulers take hosts
  /// from an elastic job with SIGTERM or SIGHUP, users end it with Ctrl-C.
  bool takes_node_away(int code) const {
    return options_.nnodes_min < options_.nnodes_max && !coordinator_ &&
           (code == 128 + SIGTERM || code == 128 + SIGHUP);
  }

  void on_event(const LinkEvent& event) {
    switch (event.kind) {
      case LinkEvent::Kind::notice:
        if (!options_.controlled) say("launcher: " + event.text);
        return;
      case LinkEvent::Kind::signal: return;  // there are no ranks here
      case LinkEvent::Kind::refused:
        say("launcher: " + event.text);
        exit_code_ = kExitUsage;
        return;
      case LinkEvent::Kind::start: return run_attempt(event.assignment);
      case LinkEvent::Kind::stop:  // the ranks have all ended here
        if (!std::exchange(told_, true) && !options_.controlled)
          say(line_of(event.cause, hello_.id));
        return;
      case LinkEvent::Kind::finish:
        if (!told_ && !options_.controlled && !event.cause.text.empty())
          say(line_of(event.cause, hello_.id));
        if (!options_.controlled)
          for (const std::string& line : event.lines) say("launcher: " + line);
        exit_code_ = event.cause.code;
        return;
      case LinkEvent::Kind::lost:
        say(lost_text(event.text));
        exit_code_ = ending_.value_or(kExitLost);
        return;
    }
  }

  std::string lost_text(const std::string& why) const {
    return fmt::format("launcher: lost the launcher of node 0 at {}: {}{}{}", endpoint_.host, why,
                       busy_.empty() ? "" : "; and here: ", busy_);
  }

  void run_attempt(const Assignment& assignment) {
    JobIdentity job{.id = assignment.job_id,
                    .token = token_,
                    .host = coordinator_ ? bound_ : endpoint_.host,
                    .port = link_->port(),
                    .launcher_id = hello_.id,
                    .attempt = assignment.attempt,
                    .node_rank = assignment.node.node_rank,
                    .nodes = assignment.nodes,
                    .first_rank = assignment.node.first_rank,
                    .total_ranks = assignment.ranks};
    if (job.attempt > 0 && (!options_.controlled || job.node_rank == 0))
      say(fmt::format("launcher: starting again, attempt {}: {} on {}", job.attempt,
                      counted(job.total_ranks, "rank"), counted(job.nodes, "host")));
    told_ = false;
    LaunchOptions options = options_;
    options.ranks = assignment.node.ranks;
    JobOptions attempt = attempt_options(options, setup_, job);
    attempt.time_limit_from = begin_;
    const std::string number = std::to_string(job.attempt);
    attempt.on_failure = [&](const LocalFailure& failure) {
      link_->send({"failed", number, failure.line, std::to_string(failure.exit_code),
                   failure.follows ? "1" : ""});
    };
    attempt.on_stop = [&](const std::string& text, int code) {
      ending_ = code;
      told_ = true;
      const bool signal = text.starts_with("SIG");
      leaving_ = takes_node_away(code);
      link_->send(
          {leaving_ ? "leave" : "stop", text + (signal ? kToLauncher : ""), std::to_string(code)});
    };
    attempt.on_end = [&](int rank, const std::string& text) {
      link_->send({"ended", number, std::to_string(rank), text});
    };
    Fd both;
    attempt.outside_fd = control_ ? watch_both(both) : link_->fd();
    attempt.told = options_.controlled;
    attempt.outside = [this] { return on_outside(); };
    Job ranks(std::move(attempt));
    ranks.run();
    if (exit_code_) return;
    link_->send({"done", number, ranks.output_lost() ? "1" : ""});
    if (leaving_) exit_code_ = ending_;  // the others go on
    if (ending_) deadline_ = deadline_after(kEnding);
  }

  /// One descriptor for the line to node 0 and that to the launcher which started this one.
  int watch_both(Fd& both) const {
    both = Fd(::epoll_create1(EPOLL_CLOEXEC));
    for (const int fd : {link_->fd(), control_.get()}) {
      epoll_event event{};
      event.events = EPOLLIN;
      if (!both || ::epoll_ctl(both.get(), EPOLL_CTL_ADD, fd, &event) != 0)
        weft::detail::fail<IoError>("launcher: epoll: {}", std::strerror(errno));
    }
    return both.get();
  }

  /// What the line brings while ranks run.
  std::optional<OutsideEnd> on_outside() {
    if (cut_off()) {
      exit_code_ = kExitLost;
      control_.reset();
      return OutsideEnd{.line = "launcher: the launcher that started this one is gone",
                        .exit_code = kExitLost,
                        .at_once = true};
    }
    const auto event = link_->take();
    if (!event) return std::nullopt;
    switch (event->kind) {
      case LinkEvent::Kind::signal: return OutsideEnd{.signal = event->signal};
      case LinkEvent::Kind::stop:
        told_ = true;
        return OutsideEnd{line_of(event->cause, hello_.id), event->cause.code,
                          event->cause.id == hello_.id};
      case LinkEvent::Kind::lost:
        exit_code_ = ending_.value_or(kExitLost);
        return OutsideEnd{lost_text(event->text), kExitLost};
      case LinkEvent::Kind::finish:
        exit_code_ = event->cause.code;
        return OutsideEnd{line_of(event->cause, hello_.id), event->cause.code};
      default: return std::nullopt;  // a notice that the ranks' start has overtaken
    }
  }

  const LaunchOptions& options_;
  Endpoint endpoint_;
  LaunchSetup setup_;
  NodeHello hello_;
  std::string token_, bound_, busy_;
  std::vector<int> ports_;
  Fd signals_, control_;
  std::optional<Coordinator> coordinator_;
  std::optional<NodeLink> link_;
  TimePoint begin_ = Clock::now();
  std::optional<TimePoint> deadline_;  // of the time limit, or for an answer
  bool leaving_ = false;               // this host alone is taken from the job
  std::optional<int> ending_;          // the code of a signal or time limit here
  bool told_ = false;                  // why the ranks of this attempt were ended
  std::optional<int> exit_code_;
};

}  // namespace

int launch_node(const LaunchOptions& options) { return Node(options).run(); }

}  // namespace weft::inline v0::launcher
