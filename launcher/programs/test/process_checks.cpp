// State, order, parts, random numbers: points 1 to 4, 8 and 9 of Accelerate's own test.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include <fmt/format.h>

#include <weft/core/ops.hpp>
#include <weft/core/random.hpp>
#include <weft/dist/accelerator.hpp>
#include <weft/launcher/programs/test/check.hpp>

namespace weft::inline v0::self_test {

namespace {

std::vector<int> count_to(int n) {
  std::vector<int> all;
  for (int i = 0; i < n; ++i) all.push_back(i);
  return all;
}

std::string state(const Context& context) {
  const Accelerator accelerator({.group = context.group});
  accelerator.wait_for_everyone();
  const Tensor ranks = accelerator.gather(full({}, context.rank()));
  require(ranks.to_vector<int>() == count_to(context.size()), "the ranks are {}",
          fmt::join(ranks.to_vector<int>(), ", "));
  require(accelerator.is_main_process() == (context.rank() == 0) &&
              accelerator.is_last_process() == (context.rank() == context.size() - 1),
          "rank {} does not know its place", context.rank());
  return context.one_host ? "on one host" : "on several hosts";
}

/// Every rank leaves a line; the main process's has to be the first.
std::string ordering(const Context& context) {
  if (!context.one_host) throw Skip("the ranks share no folder for sure: several hosts");
  const Accelerator accelerator({.group = context.group});
  const auto leave_line = [&] {
    std::ofstream(context.file, std::ios::app) << context.rank() << "\n" << std::flush;
  };
  for (int round = 0; round < 3; ++round) {
    accelerator.main_process_first(leave_line);
    accelerator.wait_for_everyone();
    std::vector<int> order;
    std::ifstream file(context.file);
    for (int rank = 0; file >> rank;) order.push_back(rank);
    file.close();
    accelerator.wait_for_everyone();
    accelerator.on_main_process([&] { ::unlink(context.file.c_str()); });
    accelerator.wait_for_everyone();
    require(!order.empty() && order.front() == 0, "the main process was not the first: {}",
            fmt::join(order, ", "));
    std::sort(order.begin(), order.end());
    require(order == count_to(context.size()), "not every rank ran once: {}",
            fmt::join(order, ", "));
  }
  const auto runs_on = [&](int rank) {
    bool ran = false;
    accelerator.on_process(rank, [&] { ran = true; });
    const Tensor all = accelerator.gather(full({}, ran ? 1 : 0));
    std::vector<int> expected(static_cast<size_t>(context.size()), 0);
    expected[static_cast<size_t>(rank)] = 1;
    require(all.to_vector<int>() == expected, "on_process({}) ran elsewhere", rank);
  };
  runs_on(0);
  runs_on(context.size() - 1);
  return {};
}

std::string split(const Context& context) {
  const Accelerator accelerator({.group = context.group});
  const int n = context.size();
  const auto part = accelerator.split_between_processes(count_to(17));
  const int expected = 17 / n + (context.rank() < 17 % n ? 1 : 0);
  require(static_cast<int>(part.size()) == expected, "{} of 17 items instead of {}", part.size(),
          expected);
  for (const int length : {2 * n, 2 * n + 1, 17}) {
    const auto items = count_to(length);
    const auto back = accelerator.gather(tensor(accelerator.split_between_processes(items, true)));
    std::vector<int> found = back.to_vector<int>();  // with the last item several times
    std::sort(found.begin(), found.end());
    found.erase(std::unique(found.begin(), found.end()), found.end());
    require(found == items, "{} items, split and gathered: {}", length, fmt::join(found, ", "));
  }
  const std::map<std::string, std::vector<std::string>> words = {
      {"words", std::vector<std::string>(static_cast<size_t>(n), "word")}};
  require(accelerator.split_between_processes(words).at("words").size() == 1, "a map of lists");
  const Tensor rows = arange(0, 2 * n).reshape({n, 2});
  require(accelerator.split_between_processes(rows).to_vector<int64_t>() ==
              std::vector<int64_t>{2 * context.rank(), 2 * context.rank() + 1},
          "a tensor");
  return {};
}

std::string gathering(const Context& context) {
  const Accelerator accelerator({.group = context.group});
  const int n = context.size(), rank = context.rank();
  const Tensor own = full({rank + 1, 2}, rank);
  const Tensor even = accelerator.pad_across_processes(own, 0, -1);
  require(even.shape() == Shape{n, 2}, "pad_across_processes: shape {}", to_string(even.shape()));
  const Tensor all = accelerator.gather(even);
  require(all.shape() == Shape{n * n, 2}, "gather: shape {}", to_string(all.shape()));
  const auto metrics = accelerator.gather_for_metrics(own).to_vector<int64_t>();
  std::vector<int64_t> expected;
  for (int r = 0; r < n; ++r) expected.insert(expected.end(), static_cast<size_t>(2 * (r + 1)), r);
  require(metrics == expected, "gather_for_metrics: {}", fmt::join(metrics, ", "));
  const double sum = accelerator.reduce(full({}, rank + 1.0)).item<double>();
  require(sum == n * (n + 1) / 2.0, "reduce: {}", sum);
  const double mean = accelerator.reduce(full({}, rank + 1.0), "mean").item<double>();
  require(mean == (n + 1) / 2.0, "reduce to the mean: {}", mean);
  return {};
}

std::string trigger(const Context& context) {
  Accelerator accelerator({.group = context.group});
  require(!accelerator.check_trigger(), "set before anyone set it");
  if (context.rank() == context.size() - 1) accelerator.set_trigger();
  require(accelerator.check_trigger(), "set on one rank, but not seen here");
  require(!accelerator.check_trigger(), "seen twice");
  return {};
}

std::string random_numbers(const Context& context) {
  const Accelerator accelerator({.group = context.group});
  manual_seed(100 + static_cast<uint64_t>(context.rank()));
  accelerator.synchronize_rng_states();
  const Tensor rows = accelerator.gather(rand({1, 8}));
  const auto values = rows.to_vector<float>();
  for (size_t i = 8; i < values.size(); ++i)
    require(values[i] == values[i - 8], "rank {} draws other numbers", i / 8);
  return {};
}

std::string second_accelerator(const Context& context) {
  Accelerator first({.gradient_accumulation_steps = 2, .group = context.group});
  {
    const Accelerator second({.split_batches = true, .group = context.group});
    require(second.num_processes() == context.size(), "the second one sees {} ranks",
            second.num_processes());
    second.wait_for_everyone();
  }
  first.wait_for_everyone();
  return "objects, no state of the process";
}

/// SIGUSR1 as a scheduler sends it, to the last rank alone and at a step that the others do not
/// know.
std::string stop_requested(const Context& context) {
  const Accelerator accelerator({.group = context.group});
  const int asked_at = 3;
  for (int step = 0; step <= asked_at; ++step) {
    if (step == asked_at && context.rank() == context.size() - 1) ::raise(SIGUSR1);
    const bool stop = accelerator.stop_requested();
    require(stop == (step == asked_at), "step {}: {}", step,
            stop ? "stopped, though nobody asked" : "the signal is not seen here");
  }
  return {};
}

}  // namespace

void add_process_checks(std::vector<Check>& checks) {
  checks.push_back({"state", state});
  checks.push_back({"ordering", ordering});
  checks.push_back({"split", split});
  checks.push_back({"gathering", gathering});
  checks.push_back({"trigger", trigger});
  checks.push_back({"random_numbers", random_numbers});
  checks.push_back({"second_accelerator", second_accelerator});
  checks.push_back({"stop_requested", stop_requested});
}

}  // namespace weft::inline v0::self_test
