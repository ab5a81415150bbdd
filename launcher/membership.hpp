// Which launchers form the job, when its ranks start, stop and start again: decided in one place,
// apart from sockets and clocks. Events and the time go in, actions come out.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <weft/dist/store/clock.hpp>

namespace weft::inline v0::launcher {

/// What a launcher says of itself when it joins.
struct NodeHello {
  std::string id = {};       ///< its own in this job
  std::string host = {};     ///< its host's name
  std::string address = {};  ///< where it comes from
  std::string version = {};  ///< of the launcher
  std::string nodes = {};    ///< --nnodes as it was given there: "2", "1:4"
  std::optional<int> node_rank = {};
  int ranks = 1;             ///< that it would start
  int total = 0;             ///< --num_processes, of all hosts; 0: not given there
  bool hosts_store = false;  ///< node 0, unless it says otherwise
};

struct PlannedNode {
  std::string id = {}, host = {};
  int node_rank = 0, first_rank = 0, ranks = 0;
};

/// One attempt of the job. The nodes are in the order of their ranks.
struct Plan {
  int attempt = 0;
  int ranks = 0;  ///< of all nodes
  std::vector<PlannedNode> nodes = {};
};

/// Why the ranks are ended.
struct Cause {
  std::string text = {};  ///< "rank 5 (pid 77) killed by SIGKILL"
  std::string id = {};    ///< the launcher that reported it; empty: the job itself
  std::string host = {};
  int code = 0;  ///< what all launchers exit with, if this is the end
};

struct Action {
  enum class Kind {
    refuse,  ///< the launcher `id` is not part of this job: `cause.text`
    notice,  ///< all launchers show `cause.text`
    start,   ///< `plan`
    stop,    ///< the ranks of this attempt end
    finish,  ///< all launchers exit with `cause.code`; `lines` say what became of the attempts
  };
  Kind kind = Kind::notice;
  std::string id = {};
  Cause cause = {};
  Plan plan = {};
  std::vector<std::string> lines = {};
};

struct MembershipOptions {
  int min_nodes = 1, max_nodes = 1;
  int total_ranks = 0;        ///< to be dealt out among the nodes; 0: each has its own number
  int max_restarts = 0;       ///< after failures of ranks; nodes that come or go are not counted
  double join_timeout = 120;  ///< seconds
  double last_call = 5;       ///< seconds without an arrival before fewer than max_nodes start
  double notice = 10;         ///< seconds of waiting before it is said who is missing
  double hold = 3;            ///< seconds that a consequence waits for its cause
  std::string version = {};
};

// Note [How several launchers act as one]
// The launcher of node 0 hosts the store and decides; the others say that they have come (join),
// that a rank of theirs failed (failed), that all of theirs have ended (done); the store tells when
// one of them is gone. An attempt starts when enough have joined, and is over when each launcher in
// it is done or gone: only then the next one may start, so that ranks of two attempts never run
// at once. The first failure decides what the job's end is called. A failure that is known to
// follow from another rank's end waits a little for that one's report.
class Membership {
 public:
  using TimePoint = dist::detail::TimePoint;
  using Actions = std::vector<Action>;

  Membership(MembershipOptions options, TimePoint now);

  Actions join(const NodeHello& hello, TimePoint now);
  /// A rank failed. `follows`: it only noticed the end of another one.
  Actions failed(const std::string& id, int attempt, Cause cause, bool follows, TimePoint now);
  /// No rank of this attempt is left on that node. `output_lost`: some of what they wrote could not
  /// be kept there, so that the job is no success.
  Actions done(const std::string& id, int attempt, TimePoint now, bool output_lost = false);
  /// The launcher, or the way to it, is lost.
  Actions gone(const std::string& id, const std::string& reason, TimePoint now);
  /// The node is taken from the job, and ends its ranks by itself. Where too few would be left,
  /// that is the job's end.
  Actions leave(const std::string& id, Cause cause, TimePoint now);
  /// Somebody ended the job there (a signal, the time limit): no further attempt.
  Actions stop(const std::string& id, Cause cause, TimePoint now);
  /// The job ends for a reason beyond its launchers: no further attempt.
  Actions abort(Cause cause, TimePoint now);
  /// Does what is due.
  Actions tick(TimePoint now);

  std::optional<TimePoint> deadline() const;
  bool finished() const { return state_ == State::finished; }

 private:
  enum class State { gathering, running, stopping, finished };
  struct Node {
    NodeHello hello;
    int order = 0;  // of joining
  };
  struct Attempt {
    int nodes, ranks;
    TimePoint start;
    std::string end;
  };

  bool elastic() const { return options_.min_nodes < options_.max_nodes; }
  int count() const { return static_cast<int>(nodes_.size()); }
  std::string name(const NodeHello& hello) const;
  std::optional<std::string> objection(const NodeHello& hello) const;
  std::map<int, const Node*> places() const;
  std::string waiting_text() const;
  void gather(Actions& out, TimePoint now);
  void start_if_complete(Actions& out, TimePoint now);
  void begin_stop(Cause cause, Actions& out);
  void settle_if_over(Actions& out, TimePoint now);
  void settle(Actions& out, TimePoint now);
  void finish(Cause cause, Actions& out, TimePoint now);

  MembershipOptions options_;
  State state_ = State::gathering;
  std::map<std::string, Node> nodes_;
  int joined_ = 0;

  TimePoint gather_start_, last_arrival_, next_notice_;
  int attempt_ = -1;
  std::set<std::string> busy_;  // in the attempt and not done
  std::map<std::string, PlannedNode> planned_;
  std::optional<Cause> held_;  // a consequence, while its cause may still come
  TimePoint held_until_;
  std::optional<Cause> cause_;  // of the stop
  bool final_ = false;          // no attempt after this one
  bool changed_ = false;        // the attempt ends because nodes came or went
  int restarts_ = 0;
  std::vector<Attempt> attempts_;
  std::vector<std::string> output_lost_;  // names of hosts, of all attempts
};

}  // namespace weft::inline v0::launcher
