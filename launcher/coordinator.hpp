// The part of node 0's launcher that decides for all launchers: the store's server and, behind it,
// the state machine of Membership on a thread of its own.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <weft/dist/store/tcp_store.hpp>
#include <weft/launcher/membership.hpp>
#include <weft/launcher/messages.hpp>

namespace weft::inline v0::launcher {

struct CoordinatorOptions {
  MembershipOptions membership = {};
  std::string address = "127.0.0.1";  ///< the one to listen on
  std::vector<int> ports = {0};       ///< the first one that is free is taken
  std::string token = {};
  std::string job_id = {};
  /// (optional) told, on a thread of the coordinator's, of all that is decided
  std::function<void(const Action&)> on_action = nullptr;
};

/// The line about a cause on the launcher `own`.
std::string line_of(const Cause& cause, const std::string& own);

class Coordinator {
 public:
  /// Listens. Throws LaunchError where no port is free.
  explicit Coordinator(CoordinatorOptions options);
  /// Waits some seconds until the other launchers have heard of the end.
  ~Coordinator();
  Coordinator(const Coordinator&) = delete;
  Coordinator& operator=(const Coordinator&) = delete;

  int port() const noexcept { return server_->port(); }

  /// Ends the job, whatever state it is in.
  void abort(const Cause& cause);

  /// All launchers pass `number` on to their ranks.
  void signal(int number);

  /// Lines about connections that the store dropped, for the end of the output.
  std::vector<std::string> reports();

 private:
  struct Event {
    std::string id = {};
    std::string peer = {};
    Fields fields = {};  // empty: the launcher is gone
    std::string reason = {};
  };

  void listen();
  void post(Event event);
  void run();
  void take(const Event& event);
  Membership::Actions on_message(const Event& event, dist::detail::TimePoint now);
  void carry_out(const Membership::Actions& actions);
  void begin_attempt(const Plan& plan);
  void send(const std::string& id, const Fields& fields);
  void send_all(const Fields& fields);

  CoordinatorOptions options_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Event> events_;
  bool closing_ = false;
  std::vector<std::string> reports_;
  size_t dropped_reports_ = 0;

  // The thread's own:
  Membership membership_;
  std::map<std::string, uint64_t> sent_;  // messages to each launcher that has not said farewell
  int attempt_ = 0;

  std::unique_ptr<dist::StoreServer> server_;
  std::thread thread_;
};

}  // namespace weft::inline v0::launcher
