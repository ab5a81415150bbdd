// A launcher's line to the one of node 0.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <weft/dist/store/socket.hpp>
#include <weft/dist/store/tcp_store.hpp>
#include <weft/launcher/messages.hpp>

namespace weft::inline v0::launcher {

struct NodeLinkOptions {
  std::string host = {};
  std::vector<int> ports = {};  ///< one of them is the store's
  std::string token = {};
  double join_timeout = 120;
  NodeHello hello = {};
};

/// What node 0 has to say, or what became of the line.
struct LinkEvent {
  enum class Kind { refused, notice, signal, start, stop, finish, lost };
  Kind kind = Kind::lost;
  std::string text = {};
  Cause cause = {};                     ///< stop, finish
  Assignment assignment = {};           ///< start
  int signal = 0;                       ///< signal
  std::vector<std::string> lines = {};  ///< finish
};

class NodeLink {
 public:
  /// Connects and joins in the background.
  explicit NodeLink(NodeLinkOptions options);
  /// Gives up what is under way.
  ~NodeLink();
  NodeLink(const NodeLink&) = delete;
  NodeLink& operator=(const NodeLink&) = delete;

  const std::string& id() const noexcept { return options_.hello.id; }

  /// Readable while take() has something.
  int fd() const noexcept { return wakeup_.get(); }
  std::optional<LinkEvent> take();

  /// The store's port; 0 before the first event other than `lost`.
  int port() const;

  /// Whether node 0's launcher has been reached and the line to it still holds.
  bool established() const;

  /// Sends a message; what cannot be sent shows as `lost`.
  void send(Fields fields);

  /// Sends a farewell and waits, for at most `seconds`, until all that was to be sent is.
  void farewell(double seconds);

 private:
  void receive();
  void transmit();
  bool on_message(const std::string& value);
  void post(LinkEvent event);
  void lose(const std::string& why);
  bool closing() const;

  NodeLinkOptions options_;
  dist::detail::Fd wakeup_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<LinkEvent> events_;
  std::deque<Fields> unsent_;
  size_t in_flight_ = 0;
  bool closing_ = false, lost_ = false, over_ = false;
  int port_ = 0;
  std::shared_ptr<dist::TcpStore> store_;
  std::thread receiver_, sender_;
};

}  // namespace weft::inline v0::launcher
