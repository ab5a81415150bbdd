// A member's signs of life.
#pragma once

#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

#include <weft/dist/store/client.hpp>
#include <weft/dist/store/store.hpp>

namespace weft::inline v0::dist::detail {

/// Shows the store that this process is alive, on a thread of its own, and watches whether the
/// store is.
class Heartbeat {
 public:
  /// `client` has joined as `member`, and outlives this.
  Heartbeat(StoreClient& client, std::string member, MemberOptions options);

  /// Lets the thread end at its next occasion: where `client` is closed, or has left, soon.
  void stop();

  /// Waits for the thread's end; call stop() before.
  ~Heartbeat();

 private:
  void run();
  bool beat();
  void pause();

  StoreClient& client_;
  std::string member_;
  MemberOptions options_;
  pid_t owner_;
  std::mutex mutex_;
  std::condition_variable stop_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace weft::inline v0::dist::detail
