#include <weft/launcher/programs/test/progress.hpp>

#include <algorithm>
#include <sstream>
#include <vector>

#include <fmt/format.h>

#include <weft/core/base/check.hpp>

namespace weft::inline v0::self_test {

void Progress::take(const Report& report) {
  if (report.event == Event::hello) {
    std::istringstream words(report.text);
    RankFacts facts;
    if (!(words >> world_ >> local_ >> facts.pid >> facts.host >> facts.job)) return;
    ranks_[report.rank] = facts;
    return;
  }
  if (report.event == Event::begin && checks_.try_emplace(report.check).second)
    open_.push_back(report.check);
  if (report.event != Event::end && report.event != Event::agreed) return;
  State& state = checks_[report.check];
  state.ends[report.rank] = report;
  state.agreed |= report.event == Event::agreed;
}

std::optional<Finished> Progress::next_finished(bool job_is_over) {
  if (open_.empty() || !started()) return std::nullopt;
  const std::string check = open_.front();
  const State& state = checks_.at(check);
  if (state.ends.size() < ranks_.size() && !(job_is_over && state.agreed)) return std::nullopt;
  open_.pop_front();
  return merged(check, state);
}

Finished Progress::merged(const std::string& check, const State& state) const {
  Finished result{.check = check};
  const Report* worst = nullptr;
  // A failure of a rank's own says more than the loss that the others saw.
  const auto weight = [](Verdict verdict) {
    switch (verdict) {
      case Verdict::fail: return 3;
      case Verdict::lost: return 2;
      case Verdict::skip: return 1;
      default: return 0;
    }
  };
  for (const auto& [rank, report] : state.ends) {
    result.seconds = std::max(result.seconds, report.seconds);
    if (worst == nullptr || weight(report.verdict) > weight(worst->verdict)) worst = &report;
  }
  if (worst == nullptr) return result;
  result.verdict = worst->verdict;
  result.text = worst->text;
  return result;
}

Finished Progress::unfinished(const std::string& check) const {
  Finished result{.check = check, .verdict = Verdict::fail};
  const auto found = checks_.find(check);
  if (found == checks_.end()) {
    result.text = "not begun";
    return result;
  }
  const State& state = found->second;
  result.seconds = merged(check, state).seconds;
  std::vector<int> missing;
  for (const auto& [rank, facts] : ranks_)
    if (state.ends.count(rank) == 0) missing.push_back(rank);
  result.text = fmt::format("no result of rank {}", fmt::join(missing, ", "));
  const Finished heard = merged(check, state);
  if (heard.verdict == Verdict::fail || heard.verdict == Verdict::lost)
    result.text += "; " + heard.text;
  return result;
}

}  // namespace weft::inline v0::self_test
