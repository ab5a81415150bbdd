#include <weft/bench/harness.hpp>

#include <benchmark/benchmark.h>
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

namespace weft::bench {

namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double time_of(const std::function<void()>& work, int repetitions) {
  const double start = now();
  for (int i = 0; i < repetitions; ++i) work();
  return (now() - start) / repetitions;
}

/// Repetitions that take about `target` seconds.
int repetitions_for(const std::function<void()>& work, double target) {
  const double once = std::max(time_of(work, 1), 1e-9);
  const double better =
      std::max(time_of(work, static_cast<int>(std::clamp(1e-3 / once, 1.0, 1e4))), 1e-9);
  return static_cast<int>(std::clamp(target / better, 1.0, 1e6));
}

constexpr int kLeastPairs = 15;
constexpr int kMostPairs = 101;

std::string seconds_text(double seconds) {
  if (seconds < 1e-6) return fmt::format("{:.0f} ns", seconds * 1e9);
  if (seconds < 1e-3) return fmt::format("{:.2f} us", seconds * 1e6);
  if (seconds < 1) return fmt::format("{:.2f} ms", seconds * 1e3);
  return fmt::format("{:.2f} s", seconds);
}

std::string figure_text(double figure, const std::string& unit) {
  return unit == "bytes" ? fmt::format("{:.1f} MB", figure / 1e6) : seconds_text(figure);
}

std::string verdict(const Comparison& c) {
  if (c.low > 1) return "faster";
  if (c.high < 1) return "slower";
  return "undecided";
}

struct Options {
  std::string report;
  std::string filter;
  double seconds = 4;
};

/// Takes our own arguments out of argv; the rest is Google Benchmark's.
Options parse(int& argc, char** argv) {
  Options options;
  int kept = 1;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    const bool has_value = i + 1 < argc;
    if (arg == "--report" && has_value)
      options.report = argv[++i];
    else if (arg == "--filter" && has_value)
      options.filter = argv[++i];
    else if (arg == "--seconds" && has_value)
      options.seconds = std::stod(argv[++i]);
    else
      argv[kept++] = argv[i];
  }
  argc = kept;
  return options;
}

void print_header() {
  std::cout << fmt::format("{:<40} {:>3} {:>11} {:>11} {:>7} {:>15}  {}\n", "row", "thr", "weft",
                           "peer", "ratio", "interval", "verdict");
}

void print_row(const Row& row, const Comparison& c) {
  std::string line = fmt::format("{:<40} {:>3} {:>11}", row.name, row.threads,
                                 figure_text(c.weft_seconds, row.unit));
  if (c.ratio > 0)
    line += fmt::format(" {:>11} {:>7.2f} {:>15}  {}", figure_text(c.peer_seconds, row.unit),
                        c.ratio, fmt::format("[{:.2f}, {:.2f}]", c.low, c.high), verdict(c));
  if (c.ratio > 0 && row.peer_name != Row{}.peer_name) line += ", against " + row.peer_name;
  if (row.bytes > 0) line += fmt::format("  {:.1f} GB/s", row.bytes / c.weft_seconds / 1e9);
  if (row.operations > 0)
    line += fmt::format("  {:.0f} GFLOP/s", row.operations / c.weft_seconds / 1e9);
  std::cout << line << std::endl;
}

nlohmann::json to_json(const Row& row, const Comparison& c) {
  nlohmann::json entry = {{"name", row.name},
                          {"weft", c.weft_seconds},
                          {"unit", row.unit},
                          {"threads", row.threads},
                          {"pairs", c.pairs}};
  const bool has_peer = c.ratio > 0;
  entry["peer"] = has_peer ? nlohmann::json(c.peer_seconds) : nlohmann::json();
  entry["peer_name"] = has_peer ? nlohmann::json(row.peer_name) : nlohmann::json();
  entry["ratio"] = has_peer ? nlohmann::json(c.ratio) : nlohmann::json();
  entry["low"] = has_peer ? nlohmann::json(c.low) : nlohmann::json();
  entry["high"] = has_peer ? nlohmann::json(c.high) : nlohmann::json();
  return entry;
}

int report(const std::vector<Row>& rows, const SetThreads& set_threads, const Options& options) {
  Report report(options.report);
  for (const Row& row : rows) {
    if (row.name.find(options.filter) == std::string::npos) continue;
    set_threads(row.threads);
    report.add(row, compare(row, options.seconds));
  }
  return report.write() ? 0 : 1;
}

void register_side(const std::string& name, const std::function<void()>& work, const Row& row,
                   const SetThreads& set_threads) {
  benchmark::RegisterBenchmark(name.c_str(), [work, row, set_threads](benchmark::State& state) {
    set_threads(row.threads);
    for ([[maybe_unused]] auto iteration : state) work();
    if (row.bytes > 0)
      state.SetBytesProcessed(static_cast<int64_t>(row.bytes) *
                              static_cast<int64_t>(state.iterations()));
    if (row.operations > 0)
      state.counters["FLOP/s"] = benchmark::Counter(
          row.operations * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
  })->UseRealTime();
}

}  // namespace

void median_interval(std::vector<double> values, double& median, double& low, double& high) {
  std::sort(values.begin(), values.end());
  const auto n = static_cast<double>(values.size());
  const size_t middle = values.size() / 2;
  median = values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
  // Normal approximation of the binomial ranks around the median.
  const double half = 0.98 * std::sqrt(n);
  const auto first = static_cast<size_t>(std::max(std::floor(n / 2 - half), 0.0));
  const auto last = static_cast<size_t>(std::min(std::ceil(n / 2 + half), n - 1));
  low = values[first];
  high = values[last];
}

Comparison compare(const Row& row, double seconds) {
  constexpr double kSlice =
      0.02;  // long enough for the clock, short enough for both to see the same weather
  Comparison result;
  for (int i = 0; i < 2; ++i) {
    row.weft();
    if (row.peer) row.peer();
  }
  const int weft_repetitions = repetitions_for(row.weft, kSlice);
  const int peer_repetitions = row.peer ? repetitions_for(row.peer, kSlice) : 0;
  std::vector<double> ours, theirs;
  const double start = now();
  while (result.pairs < kMostPairs && (result.pairs < kLeastPairs || now() - start < seconds)) {
    // Who goes first changes from pair to pair: caches and clocks favour neither side.
    double a = 0, b = 0;
    const bool weft_first = result.pairs % 2 == 0;
    if (weft_first) a = time_of(row.weft, weft_repetitions);
    if (row.peer) b = time_of(row.peer, peer_repetitions);
    if (!weft_first) a = time_of(row.weft, weft_repetitions);
    ours.push_back(a);
    if (row.peer) theirs.push_back(b);
    ++result.pairs;
  }
  return compare_times(ours, theirs);
}

Comparison compare_times(const std::vector<double>& weft, const std::vector<double>& peer) {
  Comparison result;
  result.pairs = static_cast<int>(weft.size());
  double low = 0, high = 0;
  median_interval(weft, result.weft_seconds, low, high);
  if (peer.empty()) return result;
  std::vector<double> ratios;
  for (size_t i = 0; i < weft.size(); ++i) ratios.push_back(peer[i] / weft[i]);
  median_interval(peer, result.peer_seconds, low, high);
  median_interval(ratios, result.ratio, result.low, result.high);
  return result;
}

Report::Report(std::string path) : path_(std::move(path)) { print_header(); }

void Report::add(const Row& row, const Comparison& comparison) {
  print_row(row, comparison);
  entries_.push_back(to_json(row, comparison).dump());
}

bool Report::write() const {
  if (path_.empty()) return true;
  nlohmann::json all = nlohmann::json::array();
  for (const std::string& entry : entries_) all.push_back(nlohmann::json::parse(entry));
  std::ofstream file(path_);
  file << all.dump(1) << "\n";
  file.close();
  if (!file) std::cerr << "bench: cannot write " << path_ << ": " << std::strerror(errno) << "\n";
  return static_cast<bool>(file);
}

int run_rows(int argc, char** argv, const std::vector<Row>& rows, const SetThreads& set_threads) {
  const Options options = parse(argc, argv);
  if (!options.report.empty()) return report(rows, set_threads, options);
  for (const Row& row : rows) {
    if (row.name.find(options.filter) == std::string::npos) continue;
    const std::string name = row.name + "/threads:" + std::to_string(row.threads);
    register_side("weft/" + name, row.weft, row, set_threads);
    if (row.peer) register_side(row.peer_name + "/" + name, row.peer, row, set_threads);
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace weft::bench
