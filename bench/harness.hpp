// Rows of the benchmark programs. Each row times weft and, where there is one, a peer doing the
// same work in the same process. Run plainly, a program is an ordinary Google Benchmark binary;
// with `--report FILE` it measures interleaved pairs and writes ratios (see docs/benchmarks.md).
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace weft::bench {

/// One comparison. `weft` and `peer` do the work once; a row without a peer has an empty `peer`.
struct Row {
  std::string name;
  std::function<void()> weft;
  std::function<void()> peer;
  int threads = 1;
  double bytes = 0;       ///< moved by one call, for the column of rates; 0: none
  double operations = 0;  ///< floating-point operations of one call; 0: none
  std::string peer_name = "libtorch";
  std::string unit = "s";  ///< or "bytes"
};

/// Sets the row's number of threads on both sides before it is measured.
using SetThreads = std::function<void(int)>;

/// The main function of a benchmark program. Arguments: `--report FILE` (interleaved pairs into
/// FILE, a JSON list, and a table on stdout), `--filter TEXT`, `--seconds S` (per row, default 4),
/// else those of Google Benchmark.
int run_rows(int argc, char** argv, const std::vector<Row>& rows, const SetThreads& set_threads);

/// Median of the ratios peer / weft over interleaved pairs, with its 95% interval.
struct Comparison {
  double weft_seconds = 0;
  double peer_seconds = 0;
  double ratio = 0, low = 0, high = 0;  ///< 0: there is no peer
  int pairs = 0;
};
Comparison compare(const Row& row, double seconds);

/// The same of times that were taken elsewhere: one of each side per pair. `peer` may be empty.
Comparison compare_times(const std::vector<double>& weft, const std::vector<double>& peer);

/// Rows as they are measured: a table on stdout, and a JSON list in a file ("": none).
class Report {
 public:
  explicit Report(std::string path);
  /// A row whose `peer_name` names no peer ("") or whose comparison has none stands alone.
  void add(const Row& row, const Comparison& comparison);
  /// Writes the file; false, with a message on stderr, where that fails.
  bool write() const;

 private:
  std::string path_;
  std::vector<std::string> entries_;
};

/// The median and the order statistics that enclose it with 95% (binomial), of at least one value.
void median_interval(std::vector<double> values, double& median, double& low, double& high);

}  // namespace weft::bench
