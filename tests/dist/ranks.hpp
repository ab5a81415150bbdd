// Running ranks in tests: as threads, and as processes of this very binary.
#pragma once

#include <doctest/doctest.h>
#include <sys/types.h>

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <weft/dist/comm/group.hpp>
#include <weft/dist/store/tcp_store.hpp>

namespace weft::test {

/// What went wrong in any rank's thread: doctest's assertions belong to the main thread.
class Problems {
 public:
  void expect(bool condition, const std::string& text);
  std::string text() const;

 private:
  mutable std::mutex mutex_;
  std::string text_;
};

/// Runs `body` on `size` fake ranks and CHECKs that nothing went wrong.
void check_on_ranks(int size, const std::function<void(const dist::Group&, Problems&)>& body);

/// The same on ranks that span nodes: rank r is on node `node_of[r]`.
void check_on_nodes(const std::vector<int>& node_of,
                    const std::function<void(const dist::Group&, Problems&)>& body);

/// The text of the E that `action` throws; what happened instead where it does not.
template <class E, class Action>
std::string text_of(Action&& action) {
  try {
    action();
  } catch (const E& error) {
    return error.what();
  } catch (const std::exception& error) {
    return std::string("another error: ") + error.what();
  }
  return "no error";
}

/// One rank per process, each running `probe` (a name known to comm_probe.cpp) in this binary.
class RankProcesses {
 public:
  RankProcesses(const std::string& probe, int size, const std::vector<std::string>& env = {});
  /// Rank r says that it is on node `node_of[r]`; all are on this host, and talk over loopback.
  RankProcesses(const std::string& probe, const std::vector<int>& node_of,
                const std::vector<std::string>& env = {});
  ~RankProcesses();

  pid_t pid(int rank) const { return ranks_[static_cast<size_t>(rank)].pid; }
  void kill(int rank, int signal) const;
  /// Waits until the rank has printed `line`; false where it ends, or 60 s pass, without.
  bool wait_for_line(int rank, const std::string& line);
  /// Waits for the rank's end. The exit code, or 128 + signal; -1 after 60 s.
  int wait(int rank);
  /// The store's server, from the side that hosts it.
  dist::StoreServer& server() { return *server_; }
  void drop_server() { server_.reset(); }
  /// Removes the keys that begin with `prefix`; how many there were.
  int64_t delete_keys(const std::string& prefix);
  /// What the rank has printed so far (complete once it has been waited for).
  const std::string& output(int rank) const { return ranks_[static_cast<size_t>(rank)].output; }

 private:
  struct Rank {
    pid_t pid = -1;
    int out = -1;
    std::string output;
    bool open = true;
  };
  bool read_more(Rank& rank, int milliseconds);

  std::unique_ptr<dist::StoreServer> server_;
  std::vector<Rank> ranks_;
};

}  // namespace weft::test
