// How far the ranks of one job have come, from what they report.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <string>

#include <weft/launcher/programs/test/report.hpp>

namespace weft::inline v0::self_test {

struct Finished {
  std::string check = {};
  Verdict verdict = Verdict::pass;
  double seconds = 0;
  std::string text = {};
};

struct RankFacts {
  int pid = 0;
  std::string host = {}, job = {};
};

class Progress {
 public:
  void take(const Report& report);

  /// Whether all ranks of this host have said hello. (Those of other hosts are heard where one
  /// launcher shows the output of all; results are agreed among all ranks in any case.)
  bool started() const { return local_ > 0 && static_cast<int>(ranks_.size()) >= local_; }
  int world() const { return world_; }  ///< 0 before the first hello
  int local() const { return local_; }  ///< ranks on this host
  const std::map<int, RankFacts>& ranks() const { return ranks_; }

  /// The next check that all heard ranks have ended, in the order of the checks; each once. When
  /// the job is over, one rank that has agreed with all others is enough.
  std::optional<Finished> next_finished(bool job_is_over = false);

  bool has_begun(const std::string& check) const { return checks_.count(check) == 1; }

  /// What is known about a check that never ended everywhere.
  Finished unfinished(const std::string& check) const;

 private:
  struct State {
    std::map<int, Report> ends;
    bool agreed = false;
  };
  Finished merged(const std::string& check, const State& state) const;

  int world_ = 0, local_ = 0;
  std::map<int, RankFacts> ranks_;
  std::map<std::string, State> checks_;
  std::deque<std::string> open_;  // begun by some rank, not yet handed out
};

}  // namespace weft::inline v0::self_test
