#include <weft/launcher/launch.hpp>

#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <mutex>
#include <optional>
#include <string_view>
#include <utility>

#include <weft/core/base/check.hpp>
#include <weft/dist/store/auth.hpp>
#include <weft/dist/store/clock.hpp>
#include <weft/dist/store/socket.hpp>
#include <weft/dist/store/tcp_store.hpp>
#include <weft/launcher/affinity.hpp>
#include <weft/launcher/cpus.hpp>
#include <weft/launcher/error.hpp>
#include <weft/launcher/hosts.hpp>
#include <weft/launcher/job.hpp>
#include <weft/launcher/node.hpp>
#include <weft/launcher/program.hpp>
#include <weft/launcher/scheduler.hpp>

namespace weft::inline v0::launcher {

namespace {

constexpr size_t kTokenBytes = 32;
constexpr size_t kJobIdBytes = 8;
constexpr size_t kStoreNotes = 5;  // reports of the store that are shown at the end

/// What the store's server reports, from its thread, shown after the job: a line in between could
/// be taken for the first failure.
class StoreReports {
 public:
  void add(std::string_view text) {
    const std::lock_guard lock(mutex_);
    if (++count_ <= kStoreNotes) lines_.push_back(fmt::format("launcher: {}", text));
  }
  std::vector<std::string> lines() {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> all = lines_;
    if (count_ > kStoreNotes)
      all.push_back(fmt::format("launcher: store: and {} more like it", count_ - kStoreNotes));
    return all;
  }

 private:
  std::mutex mutex_;
  size_t count_ = 0;
  std::vector<std::string> lines_;
};

/// "0,2"
std::string joined(const std::vector<int>& numbers) {
  std::string text;
  for (const int number : numbers) text += fmt::format("{}{}", text.empty() ? "" : ",", number);
  return text;
}

std::string_view name_of(std::string_view entry) { return entry.substr(0, entry.find('=')); }

std::vector<std::string> own_environment() {
  std::vector<std::string> entries;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry)
    entries.emplace_back(*entry);
  return entries;
}

/// What the ranks are to get back as the launcher found it, taken before it changes anything.
SpawnContext take_context() {
  SpawnContext context;
  ::sigprocmask(SIG_SETMASK, nullptr, &context.signal_mask);
  ::sigaction(SIGPIPE, nullptr, &context.pipe_action);
  ::getrlimit(RLIMIT_NOFILE, &context.open_files);
  return context;
}

void prepare_process(const SpawnContext& context) {
  // An inherited SIG_IGN would have the kernel reap the ranks before they are looked at.
  ::signal(SIGCHLD, SIG_DFL);
  ::signal(SIGPIPE, SIG_IGN);
  const sigset_t handled = Job::handled_signals();
  ::sigprocmask(SIG_BLOCK, &handled, nullptr);
  rlimit files = context.open_files;
  files.rlim_cur = files.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &files);
}

}  // namespace

std::vector<std::string> rank_environment(const std::vector<std::string>& base,
                                          const LaunchOptions& options, const JobIdentity& job,
                                          int local_rank, int threads) {
  std::vector<std::string> own = {
      fmt::format("RANK={}", job.first_rank + local_rank),
      fmt::format("LOCAL_RANK={}", local_rank),
      fmt::format("WORLD_SIZE={}", job.total_ranks != 0 ? job.total_ranks : options.ranks),
      fmt::format("LOCAL_WORLD_SIZE={}", options.ranks),
      fmt::format("GROUP_RANK={}", job.node_rank),
      fmt::format("GROUP_WORLD_SIZE={}", job.nodes),
      fmt::format("MASTER_ADDR={}", job.host),
      fmt::format("MASTER_PORT={}", job.port),
      fmt::format("RESTART_COUNT={}", job.attempt),
      fmt::format("TORCHELASTIC_RESTART_COUNT={}", job.attempt),
      fmt::format("WEFT_JOB_ID={}", job.id),
      fmt::format("WEFT_LAUNCHER_ID={}", job.launcher_id),
      fmt::format("WEFT_STORE=tcp://{}", dist::detail::endpoint_name(job.host, job.port)),
      fmt::format("WEFT_TOKEN={}", job.token),
  };
  if (options.stats) own.push_back("WEFT_STATS=1");
  if (options.gpu_ids) own.push_back("CUDA_VISIBLE_DEVICES=" + joined(*options.gpu_ids));
  for (const std::string& entry : options.environment)  // --env goes before --stats and --gpu_ids
    std::erase_if(own, [&](const std::string& other) { return name_of(other) == name_of(entry); });
  own.insert(own.end(), options.environment.begin(), options.environment.end());
  const auto named = [](const std::vector<std::string>& entries, std::string_view name) {
    return std::any_of(entries.begin(), entries.end(),
                       [&](const std::string& entry) { return name_of(entry) == name; });
  };
  if (!named(base, "WEFT_NUM_THREADS") && !named(own, "WEFT_NUM_THREADS"))
    own.push_back(fmt::format("WEFT_NUM_THREADS={}", threads));
  std::string omp;  // the same for what a rank computes by other libraries
  if (!named(base, "OMP_NUM_THREADS") && !named(own, "OMP_NUM_THREADS"))
    for (const auto& entries : {base, own})
      for (const std::string& entry : entries)
        if (name_of(entry) == "WEFT_NUM_THREADS") omp = "OMP" + entry.substr(4);
  if (!omp.empty()) own.push_back(omp);
  std::vector<std::string> all;
  for (const std::string& entry : base)
    if (!named(own, name_of(entry)) && name_of(entry) != "WEFT_TOKEN_FILE") all.push_back(entry);
  all.insert(all.end(), own.begin(), own.end());
  return all;
}

LaunchSetup prepare_launch(const LaunchOptions& options) {
  LaunchSetup setup;
  setup.context = take_context();
  setup.context.path = find_program(options.command[0]);
  setup.context.argv = options.command;
  setup.environment = own_environment();
  prepare_process(setup.context);
  return setup;
}

std::string random_id() { return dist::detail::to_hex(dist::detail::random_bytes(kJobIdBytes)); }
std::string random_token() { return dist::detail::to_hex(dist::detail::random_bytes(kTokenBytes)); }

JobOptions attempt_options(const LaunchOptions& options, const LaunchSetup& setup,
                           const JobIdentity& job) {
  JobOptions attempt;
  attempt.context = setup.context;
  attempt.time_limit = options.time_limit;
  attempt.grace = options.grace;
  attempt.first_rank = job.first_rank;
  attempt.total_ranks = job.total_ranks;
  attempt.launcher_id = job.launcher_id;
  attempt.output = output_options(options, job.id, job.attempt);
  attempt.quiet = options.quiet;
  attempt.debug = options.debug;
  const int threads = std::max(1, allowed_cpus() / options.ranks);
  const std::vector<Cpu> cpus = options.bind == Bind::none ? std::vector<Cpu>() : topology();
  for (int rank = 0; rank < options.ranks; ++rank) {
    const Placement placement = place(options.bind, cpus, rank, options.ranks, threads);
    attempt.placements.push_back(placement);
    attempt.environments.push_back(
        rank_environment(setup.environment, options, job, rank, placement.threads));
  }
  return attempt;
}

namespace {

/// The attempts at a job on this host alone, until one succeeds or none is left.
class LocalLaunch {
 public:
  explicit LocalLaunch(const LaunchOptions& options)
      : options_(options), setup_(prepare_launch(options)) {
    job_.id = options.rdzv_id.empty() ? random_id() : options.rdzv_id;
    job_.launcher_id = random_id();
    job_.token = random_token();
    // See Note [MASTER_ADDR and MASTER_PORT].
    const bool unasked = options.setting("main_process_port").spelling == "MASTER_PORT" &&
                         !options.given("rdzv_endpoint");
    open_store(options.rdzv_endpoint && !unasked ? options.rdzv_endpoint->port : 0);
    job_.host = store_->address();
    job_.port = store_->port();
  }

  int run() {
    for (;; begin_next()) {
      int code = 0;
      try {
        code = run_attempt();
      } catch (const LaunchError&) {
        for (const std::string& line : summary()) std::fprintf(stderr, "%s\n", line.c_str());
        throw;
      }
      if (code == 0) return output_lost_ ? kExitLost : 0;
      if (is_last(code)) return code;
    }
  }

 private:
  /// On the port that was asked for; where another job has it, on any, as nobody but the ranks,
  /// which are told, has to find it.
  void open_store(int port) {
    dist::StoreServerOptions options{
        .port = port, .token = job_.token, .report = [this](std::string_view text) {
          reports_.add(text);
        }};
    try {
      store_.emplace(options);
    } catch (const IoError&) {
      if (port == 0) throw;
      options.port = 0;
      store_.emplace(options);
      reports_.add(fmt::format("port {} is taken on this host; the job's store had port {}", port,
                               store_->port()));
    }
  }

  bool is_last(int code) const {
    return code == 0 || stopped_ || job_.attempt >= options_.max_restarts || never_starts(code);
  }

  /// What became of the attempts, where there was more than one.
  std::vector<std::string> summary() const {
    return job_.attempt > 0 ? attempts_ : std::vector<std::string>();
  }

  void note_end(std::string_view how, dist::detail::TimePoint start) {
    constexpr std::string_view kOwn = "launcher: ";
    if (how.starts_with(kOwn)) how.remove_prefix(kOwn.size());
    attempts_.push_back(fmt::format("launcher: attempt {}: {} after {:.1f} s", job_.attempt, how,
                                    dist::detail::seconds_since(start)));
  }

  int run_attempt() {
    JobOptions attempt = attempt_options(options_, setup_, job_);
    const std::string prefix = dist::attempt_prefix(job_.attempt) + "/";
    const auto start = dist::detail::Clock::now();
    attempt.time_limit_from = begin_;
    attempt.on_end = [&](int rank, const std::string& text) {
      store_->publish(prefix + dist::rank_exit_key(rank), text);
    };
    attempt.on_stop = [&](const std::string& text, int) {
      stopped_ = true;
      note_end(text, start);
    };
    attempt.on_first_line = [&](const std::string& line) { note_end(line, start); };
    attempt.notes = [&](int code) {
      if (code == 0) note_end("ended", start);
      std::vector<std::string> lines = reports_.lines();
      const std::vector<std::string> attempts = summary();
      if (is_last(code)) lines.insert(lines.end(), attempts.begin(), attempts.end());
      return lines;
    };
    Job job(std::move(attempt));
    const int code = job.run();
    output_lost_ = output_lost_ || job.output_lost();
    return code;
  }

  void begin_next() {
    ++job_.attempt;
    std::fprintf(stderr, "launcher: starting all ranks again, attempt %d of at most %d\n",
                 job_.attempt, options_.max_restarts);
    store_->set_epoch(job_.attempt);
    store_->delete_prefix(dist::attempt_prefix(job_.attempt - 1) + "/");
    store_->delete_prefix(dist::gone_key(""));
    store_->delete_prefix(dist::left_key(""));
  }

  const LaunchOptions& options_;
  LaunchSetup setup_;
  JobIdentity job_;
  StoreReports reports_;
  std::optional<dist::StoreServer> store_;
  dist::detail::TimePoint begin_ = dist::detail::Clock::now();
  std::vector<std::string> attempts_;  // what became of them
  bool stopped_ = false;               // by a signal or the time limit
  bool output_lost_ = false;
};

}  // namespace

int launch(const LaunchOptions& given) {
  if (const auto command = srun_command(given)) become_srun(*command);
  if (given.controlled) return launch_node(given);  // part of a job, whatever it finds here
  const LaunchOptions options = under_scheduler(given);
  if (!options.hostfile.empty()) return launch_over_ssh(options);
  if (options.nnodes_max > 1) return launch_node(options);
  return LocalLaunch(options).run();
}

}  // namespace weft::inline v0::launcher
