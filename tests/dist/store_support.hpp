// What the store's tests share.
#pragma once

#include <doctest/doctest.h>

#include <chrono>
#include <cstdlib>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <weft/dist/store/auth.hpp>
#include <weft/dist/store/channel.hpp>
#include <weft/dist/store/frame.hpp>
#include <weft/dist/store/socket.hpp>
#include <weft/dist/store/tcp_store.hpp>
#include <weft/tests/support/environment.hpp>

namespace weft::test {

inline const std::string kToken = "a token that only this test knows";

/// Runs `test` on a fresh store of each kind, each in a subcase.
void on_each_store(const std::function<void(dist::Store&)>& test);

/// Collects what a server reports; `wait_for` blocks until a report contains the text.
class Reports {
 public:
  std::function<void(std::string_view)> sink();
  bool wait_for(const std::string& text, double seconds = 10);
  size_t count() const;

 private:
  struct Shared;
  std::shared_ptr<Shared> shared_ = make();
  static std::shared_ptr<Shared> make();
};

/// A bare connection to a server, to send what no client sends.
class RawClient {
 public:
  explicit RawClient(int port);

  void send(std::string_view bytes);
  /// Sends hello and proof; false where the server closes instead of answering.
  bool handshake(const std::string& token, const std::string& client_id);
  /// The next `count` bytes; nothing where the server closes first.
  std::optional<std::string> receive(size_t count);
  /// Sends a frame as the handshake's keys say.
  void send_frame(const std::string& frame);
  /// The bytes of a frame, sealed as the next one, not sent.
  std::string seal(const std::string& frame);
  /// The reply frame's kind and body; nothing where the server closes first.
  std::optional<std::pair<dist::detail::FrameKind, std::string>> reply();
  /// Whether the server closes the connection, within 10 s, without sending a byte.
  bool closed_silently();
  void close() { fd_.reset(); }

 private:
  dist::detail::Fd fd_;
  dist::detail::FrameChannel channel_;
};

/// Seconds that `action` takes.
inline double seconds_of(const std::function<void()>& action) {
  const auto start = std::chrono::steady_clock::now();
  action();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace weft::test
