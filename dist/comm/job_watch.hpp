// The life of the job's other hosts, as one thread of each process watches it.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include <weft/dist/store/store.hpp>

namespace weft::inline v0::dist::detail {

/// What a group wants to be told, on the watch's thread.
struct GroupWatch {
  /// The job has failed elsewhere; `rank` in the job, -1 where it is not one rank.
  std::function<void(int rank, const std::string& text)> on_failure;
  /// About once a second. Must not throw, nor take long.
  std::function<void()> on_beat;
};

class JobWatch {
 public:
  virtual ~JobWatch() = default;
  /// Starts to tell; at once where the job has failed already. Returns a number for remove(), after
  /// which nothing is called any more.
  virtual int add(GroupWatch group) = 0;
  virtual void remove(int number) noexcept = 0;
};

/// Whose signs of life a process gives and watches.
struct WatchedNodes {
  bool speaks = false;  ///< this process does so for its node
  int node = 0, next = 0;
  std::string next_host = {};
  int next_rank = -1;  ///< the next node's rank, where it has one alone
  double nap = 0.2;    ///< seconds: so long may the end of the watch take
};

/// Watches through `store`: what launchers publish, and the next node's signs of life.
std::shared_ptr<JobWatch> make_job_watch(std::shared_ptr<Store> store, WatchedNodes nodes);

}  // namespace weft::inline v0::dist::detail
