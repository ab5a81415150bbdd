// The server's side of the handshake, apart from any socket: bytes go in, bytes come out.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include <weft/dist/store/auth.hpp>
#include <weft/dist/store/channel.hpp>

namespace weft::inline v0::dist::detail {

class ServerHandshake {
 public:
  enum class State { hello, proof, open, failed };

  /// `secret` is what both sides have to know; `sealed` whether frames carry tags; `admit` says of
  /// a client that knows the secret why it is not let in (Refusal::none: it is).
  ServerHandshake(std::string_view secret, bool sealed,
                  std::function<RefusalReason(const Hello&)> admit);

  /// Takes from the front of `in` what belongs to the handshake and appends the answers to `out`;
  /// a refusal is to be sent even where the state is `failed`.
  State advance(std::string& in, std::string& out);

  /// Why it failed.
  const std::string& problem() const noexcept { return problem_; }
  const Hello& hello() const noexcept { return hello_; }

  /// The way that frames take once the state is `open`.
  FrameChannel make_channel() const;

 private:
  State fail(std::string why);
  State take_hello(std::string& in, std::string& out);

  std::string secret_;
  bool sealed_;
  std::function<RefusalReason(const Hello&)> admit_;
  State state_ = State::hello;
  Hello hello_;
  std::string hello_bytes_, challenge_, problem_;
};

}  // namespace weft::inline v0::dist::detail
