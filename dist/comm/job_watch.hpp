// The life of the job's other hosts, as one thread of each process watches it.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include <weft/dist/store/store.hpp>

namespace weft::inline v0::dist::detail {

/// What the members of a group learn when the job fails elsewhere: `rank` in the job, -1 where it
/// is not one rank.
using FailureHandler = std::function<void(int rank, const std::string& text)>;

class JobWatch {
 public:
  virtual ~JobWatch() = default;
  /// Calls `handler` once, on the watch's thread, when the job has failed; at once where it has
  /// already. Returns a number for remove(), after which the handler is not called any more.
  virtual int add(FailureHandler handler) = 0;
  virtual void remove(int number) noexcept = 0;
};

/// Whose signs of life a process gives and watches.
struct WatchedNodes {
  bool speaks = false;  ///< this process does so for its node
  int node = 0, next = 0;
  std::string next_host = {};
  int next_rank = -1;  ///< the next node's rank, where it has one alone
};

/// Watches through `store`: what launchers publish, and the next node's signs of life.
std::shared_ptr<JobWatch> make_job_watch(std::shared_ptr<Store> store, WatchedNodes nodes);

}  // namespace weft::inline v0::dist::detail
