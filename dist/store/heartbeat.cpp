#include <weft/dist/store/heartbeat.hpp>

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include <weft/core/base/check.hpp>
#include <weft/dist/store/bytes.hpp>

namespace weft::inline v0::dist::detail {

namespace {

constexpr double kPause = 0.05;  // seconds after a failed attempt

}  // namespace

// Note [A heartbeat is a wait]
// A member waits, again and again, for the key that says that it is gone: for one interval, then
// the server answers that the time is up. Each request tells the server that the member lives, each
// answer the member that the server does. As the wait always stands, a connection that breaks is
// noticed at once and made again within the server's grace, and a member that was given up learns
// it at once.

Heartbeat::Heartbeat(StoreClient& client, std::string member, MemberOptions options)
    : client_(client), member_(std::move(member)), options_(std::move(options)), owner_(getpid()) {
  // Signals belong to the threads of the program.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { run(); });
  pthread_setname_np(thread_.native_handle(), "weft-heartbeat");
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Heartbeat::~Heartbeat() {
  if (owner_ != getpid()) {  // a forked copy, which has no such thread
    thread_.detach();
    return;
  }
  stop();
  thread_.join();
}

void Heartbeat::stop() {
  const std::lock_guard lock(mutex_);
  stopping_ = true;
  stop_.notify_all();
}

void Heartbeat::run() {
  std::string trouble = "no answer";
  for (;;) {
    try {
      if (!beat()) return;
    } catch (const TimeoutError& error) {
      // The server's own answer at the end of the interval; or none, which the time tells.
      trouble = error.what();
    } catch (const Error& error) {
      trouble = error.what();
      pause();
    }
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) return;
    }
    const double silence = client_.seconds_since_contact();
    if (silence < options_.limit && !client_.refused()) continue;
    if (options_.on_lost)
      options_.on_lost(fmt::format("the store at {} has not answered for {:.1f} s: {}",
                                   client_.endpoint(), silence, trouble));
    return;
  }
}

/// Waits for one interval; false where there is nothing more to show.
bool Heartbeat::beat() {
  const double left = options_.limit - client_.seconds_since_contact();
  const double interval = std::clamp(options_.interval, 0.0, std::max(left, 0.0));
  Request request{.kind = FrameKind::wait_any,
                  .timeout_us = static_cast<uint64_t>(interval * 1e6),
                  .strings = {gone_key(member_), left_key(member_)}};
  // Half of the limit is for a server that is slow, the other half to look for it anew.
  const double longest =
      std::clamp(left, kPause, std::max(options_.interval + kServerSlack, options_.limit / 2));
  const std::string body = client_.call(std::move(request), "heartbeat", longest);
  if (Reader(body).take<uint32_t>() == 0 && options_.on_lost) {
    const std::string why = client_.timed_call(
        {.kind = FrameKind::get, .strings = {gone_key(member_)}}, "get", options_.limit);
    options_.on_lost(fmt::format("the store gave '{}' up: {}", member_, why));
  }
  return false;
}

void Heartbeat::pause() {
  std::unique_lock lock(mutex_);
  stop_.wait_for(lock, std::chrono::duration<double>(kPause), [this] { return stopping_; });
}

}  // namespace weft::inline v0::dist::detail
