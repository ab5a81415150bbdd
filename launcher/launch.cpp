#include <weft/launcher/launch.hpp>

#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <mutex>
#include <string_view>
#include <utility>

#include <weft/core/base/check.hpp>
#include <weft/core/base/env.hpp>
#include <weft/dist/store/auth.hpp>
#include <weft/dist/store/tcp_store.hpp>
#include <weft/launcher/affinity.hpp>
#include <weft/launcher/cpus.hpp>
#include <weft/launcher/error.hpp>
#include <weft/launcher/job.hpp>
#include <weft/launcher/program.hpp>

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
                                          int rank, int threads) {
  std::vector<std::string> own = {
      fmt::format("RANK={}", rank),
      fmt::format("LOCAL_RANK={}", rank),
      fmt::format("WORLD_SIZE={}", options.ranks),
      fmt::format("LOCAL_WORLD_SIZE={}", options.ranks),
      fmt::format("MASTER_ADDR={}", job.host),
      fmt::format("MASTER_PORT={}", job.port),
      fmt::format("WEFT_JOB_ID={}", job.id),
      fmt::format("WEFT_STORE=tcp://{}:{}", job.host, job.port),
      fmt::format("WEFT_TOKEN={}", job.token),
  };
  if (options.stats) own.push_back("WEFT_STATS=1");
  if (options.gpu_ids) own.push_back("CUDA_VISIBLE_DEVICES=" + joined(*options.gpu_ids));
  own.insert(own.end(), options.environment.begin(), options.environment.end());
  const auto named = [](const std::vector<std::string>& entries, std::string_view name) {
    return std::any_of(entries.begin(), entries.end(),
                       [&](const std::string& entry) { return name_of(entry) == name; });
  };
  if (!named(base, "WEFT_NUM_THREADS") && !named(own, "WEFT_NUM_THREADS"))
    own.push_back(fmt::format("WEFT_NUM_THREADS={}", threads));
  std::vector<std::string> all;
  for (const std::string& entry : base)
    if (!named(own, name_of(entry)) && name_of(entry) != "WEFT_TOKEN_FILE") all.push_back(entry);
  all.insert(all.end(), own.begin(), own.end());
  return all;
}

int launch(const LaunchOptions& options) {
  JobOptions job_options;
  job_options.context = take_context();
  job_options.context.path = find_program(options.command[0]);
  job_options.context.argv = options.command;
  job_options.time_limit = options.time_limit;
  job_options.grace = options.grace;
  prepare_process(job_options.context);

  JobIdentity job;
  job.id = dist::detail::to_hex(dist::detail::random_bytes(kJobIdBytes));
  job.token = dist::detail::to_hex(dist::detail::random_bytes(kTokenBytes));
  StoreReports reports;
  dist::StoreServer store(
      {.token = job.token, .report = [&](std::string_view text) { reports.add(text); }});
  job.host = store.address();
  job.port = store.port();

  const int threads = std::max(1, allowed_cpus() / options.ranks);
  const std::vector<Cpu> cpus = options.bind == Bind::none ? std::vector<Cpu>() : topology();
  const std::vector<std::string> base = own_environment();
  for (int rank = 0; rank < options.ranks; ++rank) {
    const Placement placement = place(options.bind, cpus, rank, options.ranks, threads);
    job_options.placements.push_back(placement);
    job_options.environments.push_back(
        rank_environment(base, options, job, rank, placement.threads));
  }
  job_options.job_id = job.id;
  job_options.output = output_options(options, job.id, 0);
  job_options.quiet = options.quiet;
  job_options.debug = options.debug;
  job_options.on_end = [&](int rank, const std::string& text) {
    store.publish(dist::rank_exit_key(rank), text);
  };
  job_options.notes = [&] { return reports.lines(); };
  return Job(std::move(job_options)).run();
}

}  // namespace weft::inline v0::launcher
