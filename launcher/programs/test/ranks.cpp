#include <weft/launcher/programs/test/ranks.hpp>

#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <random>

#include <weft/core/base/check.hpp>
#include <weft/core/base/env.hpp>
#include <weft/core/ops.hpp>
#include <weft/launcher/programs/test/check.hpp>
#include <weft/launcher/programs/test/report.hpp>

namespace weft::inline v0::self_test {

namespace {

using Clock = std::chrono::steady_clock;

void say(const Report& report) {
  const std::string line = format(report) + "\n";
  std::fwrite(line.data(), 1, line.size(), stdout);
  std::fflush(stdout);
}

std::string host_name() {
  char name[256] = {};
  return ::gethostname(name, sizeof name - 1) == 0 ? name : "unknown";
}

int64_t monotonic_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

int local_size(const dist::Group& group) {
  return static_cast<int>(env::get_int("LOCAL_WORLD_SIZE", 1, 1 << 20).value_or(group.size()));
}

void greet(const dist::Group& group) {
  say({.rank = group.rank(),
       .event = Event::hello,
       .text = fmt::format("{} {} {} {} {}", group.size(), local_size(group), ::getpid(),
                           host_name(), env::get("WEFT_JOB_ID").value_or("-"))});
}

/// What is to happen before the check's own calls.
void commit(Fault fault) {
  if (fault == Fault::crash) ::raise(SIGSEGV);
  if (fault == Fault::leave) ::_exit(0);
  while (fault == Fault::hang) ::pause();
}

struct Outcome {
  Verdict verdict = Verdict::pass;
  std::string text = {};
};

Outcome run(const Check& check, const Context& context, const std::optional<PlannedFault>& fault) {
  const bool faulty = fault && fault->check == check.name && context.rank() == context.size() - 1;
  try {
    if (faulty) commit(fault->fault);
    const std::string figure = check.run(context);
    require(!faulty, "broken on purpose");
    return {Verdict::pass, figure};
  } catch (const Skip& reason) {
    return {Verdict::skip, reason.what()};
  } catch (const CommError& error) {
    return {Verdict::lost, error.what()};
  } catch (const std::exception& error) {
    return {Verdict::fail, error.what()};
  }
}

/// What the worst of the ranks found, on all of them. Throws CommError where the group has ended.
Outcome agree(const dist::Group& group, const Outcome& own) {
  constexpr size_t kRow = 512;
  std::vector<uint8_t> row(kRow, 0);
  row[0] = static_cast<uint8_t>(own.verdict);
  std::memcpy(row.data() + 1, own.text.data(), std::min(own.text.size(), kRow - 2));
  const auto rows = group.all_gather(from_host(row.data(), {int64_t{kRow}}, DType::u8));
  const std::vector<uint8_t> bytes = rows.to_vector<uint8_t>();
  Outcome worst;
  for (int rank = 0; rank < group.size(); ++rank) {
    const uint8_t* its = bytes.data() + static_cast<size_t>(rank) * kRow;
    const auto verdict = static_cast<Verdict>(its[0]);
    if (rank > 0 && verdict <= worst.verdict) continue;
    const std::string text = reinterpret_cast<const char*>(its + 1);
    worst = {verdict, verdict == Verdict::fail ? fmt::format("rank {}: {}", rank, text) : text};
  }
  return worst;
}

/// Whether the group can go on.
bool run_and_report(const Check& check, const Context& context,
                    const std::optional<PlannedFault>& fault) {
  say({.rank = context.rank(), .event = Event::begin, .check = check.name});
  const auto start = Clock::now();
  Outcome outcome = run(check, context, fault);
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  bool alive = true;
  try {
    outcome = agree(context.group, outcome);
  } catch (const CommError& error) {
    alive = false;
    // A rank that failed by itself has the reason; the group's end is its consequence.
    if (outcome.verdict != Verdict::fail) outcome = {Verdict::lost, error.what()};
  }
  say({context.rank(), alive ? Event::agreed : Event::end, check.name, outcome.verdict, seconds,
       outcome.text});
  return alive;
}

}  // namespace

int run_rank(const RankPlan& plan) {
  const dist::Group group = dist::init_process_group();
  greet(group);
  const Context context{group, local_size(group) == group.size(), plan.quick, plan.file};
  const std::vector<Check> checks = all_checks();
  for (const std::string& name : plan.checks) {
    const auto found = std::find_if(checks.begin(), checks.end(),
                                    [&](const Check& one) { return one.name == name; });
    const Check unknown{name, [](const Context&) -> std::string {
                          throw Broken("this rank's program is of another version: no such check");
                        }};
    if (!run_and_report(found == checks.end() ? unknown : *found, context, plan.fault))
      return kGroupEnded;
  }
  return 0;
}

int run_drill() {
  // The launcher asks the survivors to end as soon as it has seen the death; they are to notice
  // that for themselves.
  ::signal(SIGTERM, SIG_IGN);
  const dist::Group group = dist::init_process_group();
  greet(group);
  const Tensor drawn = full({1}, static_cast<int64_t>(std::random_device()() >> 1));
  group.broadcast(drawn);
  const int culprit = static_cast<int>(drawn.item<int64_t>() % group.size());
  const auto tell = [&](const std::string& text) {
    say({.rank = group.rank(), .event = Event::drill, .check = kKillDrill.name, .text = text});
  };
  tell(fmt::format("culprit {}", culprit));
  const Tensor values = ones({1 << 16});
  try {
    for (int step = 0;; ++step) {
      group.all_reduce(values, dist::ReduceOp::max);
      if (step != 50 || group.rank() != culprit) continue;
      tell(fmt::format("kill {}", monotonic_ns()));
      ::raise(SIGKILL);
    }
  } catch (const PeerLost& error) {
    tell(fmt::format("lost {} {}", monotonic_ns(), error.what()));
  }
  return 0;
}

}  // namespace weft::inline v0::self_test
