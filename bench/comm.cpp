// Collectives between ranks of one host: our shared memory beside raw gloo over TCP, Open MPI and
// DeepSpeed's shared-memory op. All contenders are processes of their own that sleep while another
// one is measured; a round measures each once, and ratios are those of one round.
//
//   comm --report FILE [--filter TEXT] [--rounds N] [--ranks N] [--deepspeed FOLDER]
//
// FOLDER is a Python environment with deepspeed. Without --report only the table is printed.
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <exception>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <weft/bench/contender.hpp>
#include <weft/bench/harness.hpp>
#include <weft/dist/store/tcp_store.hpp>

namespace {

using namespace weft;
using bench::Contender;
using bench::Order;

constexpr const char* kToken = "benchmark of a few ranks";
constexpr double kSlice = 0.03;  // seconds of one contender in one round
constexpr int kMostCalls = 400;

struct Options {
  std::string report, filter, deepspeed;
  int rounds = 15;
  int ranks = 0;  // 0: 2, then 4
};

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i], value = argv[i + 1];
    if (name == "--report") options.report = value;
    if (name == "--filter") options.filter = value;
    if (name == "--deepspeed") options.deepspeed = value;
    if (name == "--rounds") options.rounds = std::stoi(value);
    if (name == "--ranks") options.ranks = std::stoi(value);
  }
  return options;
}

struct Case {
  int ranks;
  std::string operation, label;
  size_t bytes;
};

std::vector<Case> cases_of(int ranks) {
  constexpr size_t kKi = 1 << 10, kMi = 1 << 20;
  std::vector<Case> cases;
  const auto add = [&](const char* label, size_t bytes) {
    cases.push_back({ranks, "all_reduce", label, bytes});
  };
  add("4 KiB", 4 * kKi);
  if (ranks == 2) {
    add("64 KiB", 64 * kKi);
    add("1 MiB", kMi);
  }
  add("16 MiB", 16 * kMi);
  if (ranks == 2) {
    add("64 MiB", 64 * kMi);
    add("256 MiB", 256 * kMi);
  }
  cases.push_back({ranks, "barrier", "", 0});
  return cases;
}

using Command = std::vector<std::string>;

/// `program RANK SIZE` as each rank, with the variables that it needs. Where they can have one
/// each, ranks may be `bound` to CPUs, as mpirun binds its own.
std::vector<Command> as_ranks(int ranks, const Command& program, const Command& variables,
                              bool bound) {
  std::vector<Command> commands;
  const int cpus = static_cast<int>(std::thread::hardware_concurrency());
  for (int rank = 0; rank < ranks; ++rank) {
    Command command;
    if (bound && ranks <= cpus) command = {"taskset", "-c", std::to_string(rank)};
    const Command place = {"env",
                           fmt::format("RANK={}", rank),
                           fmt::format("LOCAL_RANK={}", rank),
                           fmt::format("WORLD_SIZE={}", ranks),
                           fmt::format("LOCAL_WORLD_SIZE={}", ranks),
                           fmt::format("LOCAL_SIZE={}", ranks),
                           "OMP_NUM_THREADS=1"};
    command.insert(command.end(), place.begin(), place.end());
    command.insert(command.end(), variables.begin(), variables.end());
    command.insert(command.end(), program.begin(), program.end());
    command.insert(command.end(), {std::to_string(rank), std::to_string(ranks)});
    commands.push_back(command);
  }
  return commands;
}

using Contenders = std::vector<std::unique_ptr<Contender>>;

/// weft first, then the peers that start here; of others it says why they do not.
Contenders start_all(int ranks, const Options& options, dist::StoreServer& store,
                     dist::StoreServer& second_store) {
  const std::string folder = bench::own_folder();
  const auto variables = [](const dist::StoreServer& server) -> Command {
    return {fmt::format("WEFT_STORE=tcp://127.0.0.1:{}", server.port()),
            fmt::format("WEFT_TOKEN={}", kToken)};
  };
  Contenders all;
  const auto add = [&](const char* name, const Contender::Commands& commands, double patience) {
    auto contender = std::make_unique<Contender>(name, ranks, commands, patience);
    if (contender->why_not().empty())
      all.push_back(std::move(contender));
    else
      std::cout << fmt::format("{} ranks of {}: {}\n", ranks, name, contender->why_not());
  };
  add(
      "weft",
      [&](const std::string& address) {
        return as_ranks(ranks, {folder + "/comm_rank", "weft", address}, variables(store), true);
      },
      60);
  add(
      "gloo",
      [&](const std::string& address) {
        return as_ranks(ranks, {folder + "/comm_rank", "gloo", address}, variables(second_store),
                        false);  // its own thread needs a place too
      },
      60);
  add(
      "Open MPI",
      [&](const std::string& address) {
        return std::vector<Command>{{"mpirun", "--oversubscribe", "--allow-run-as-root", "-n",
                                     std::to_string(ranks), folder + "/mpi_rank", address}};
      },
      60);
  if (!options.deepspeed.empty())
    add(
        "DeepSpeed",
        [&](const std::string& address) {
          return as_ranks(
              ranks,
              {options.deepspeed + "/bin/python", BENCH_SOURCES "/deepspeed_rank.py", address},
              {"MASTER_ADDR=127.0.0.1", fmt::format("MASTER_PORT={}", 20000 + getpid() % 20000),
               "GLOO_SOCKET_IFNAME=lo", "CUDA_VISIBLE_DEVICES="},
              true);
        },
        300);
  return all;
}

/// As many calls as fill a slice, found by trying.
int calls_for(Contender& contender, Order order) {
  order.iterations = 3;
  const double once = std::max(contender.measure(order), 1e-8);
  return static_cast<int>(std::clamp(kSlice / once, 1.0, static_cast<double>(kMostCalls)));
}

/// One participant of a case: a contender, and for weft where the data lies.
struct Entry {
  Contender* contender;
  Order order;
  std::vector<double> seconds = {};
};

std::string row_name(const Case& c, const Entry& entry) {
  if (c.operation == "barrier") return fmt::format("barrier, {} ranks", c.ranks);
  return fmt::format("all_reduce {}, {} ranks, {}", c.label, c.ranks,
                     entry.order.in_arena ? "in the arena" : "own memory");
}

void add_rows(const Case& c, const std::vector<Entry>& entries, bench::Report& report) {
  for (const Entry& ours : entries) {
    if (ours.contender->name() != "weft") continue;
    const bench::Row named{
        .name = row_name(c, ours), .weft = {}, .peer = {}, .bytes = static_cast<double>(c.bytes)};
    bool alone = true;
    for (const Entry& theirs : entries) {
      if (theirs.contender->name() == "weft") continue;
      bench::Row row = named;
      row.peer_name = theirs.contender->name();
      report.add(row, bench::compare_times(ours.seconds, theirs.seconds));
      alone = false;
    }
    if (alone) report.add(named, bench::compare_times(ours.seconds, {}));
  }
}

void run_case(const Case& c, const Contenders& contenders, const Options& options,
              bench::Report& report) {
  std::vector<Entry> entries;
  for (const auto& contender : contenders) {
    const Order order{.operation = c.operation, .bytes = c.bytes};
    entries.push_back({contender.get(), order});
    if (contender->name() != "weft" || c.operation == "barrier") continue;
    entries.back().order.in_arena = true;
    entries.push_back({contender.get(), order});
  }
  for (Entry& entry : entries) entry.order.iterations = calls_for(*entry.contender, entry.order);
  for (int round = 0; round < options.rounds; ++round)
    for (size_t i = 0; i < entries.size(); ++i) {
      // Who goes first changes from round to round.
      Entry& entry = entries[(i + static_cast<size_t>(round)) % entries.size()];
      entry.seconds.push_back(entry.contender->measure(entry.order));
    }
  add_rows(c, entries, report);
}

int run(const Options& options) {
  bench::Report report(options.report);
  for (const int ranks : {2, 4}) {
    if (options.ranks != 0 && options.ranks != ranks) continue;
    dist::StoreServer store({.token = kToken}), second_store({.token = kToken});
    const Contenders contenders = start_all(ranks, options, store, second_store);
    for (const Case& c : cases_of(ranks))
      if (fmt::format("{} {}, {} ranks", c.operation, c.label, ranks).find(options.filter) !=
          std::string::npos)
        run_case(c, contenders, options, report);
  }
  return report.write() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(parse(argc, argv));
  } catch (const std::exception& error) {
    std::cerr << "comm: " << error.what() << "\n";
    return 1;
  }
}
