// What a client of the store has asked and what has been answered, apart from any socket: which
// frames are to be sent on which connection, and which reply is whose. Not thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include <weft/dist/store/frame.hpp>

namespace weft::inline v0::dist::detail {

class StoreCalls {
 public:
  struct Reply {
    FrameKind kind = FrameKind::value;
    std::string body;
  };

  /// Begins a call; its id. The frame says which calls before it are over, see Note [Requests count
  /// once].
  uint64_t begin(Request request);

  /// The call's frame where it has not been sent on connection number `link` yet, which it then
  /// counts as; nothing where it has, or is answered.
  std::optional<std::string_view> to_send(uint64_t id, uint64_t link);

  /// Takes a frame from the server. One of a call that is over is ignored.
  void deliver(const Frame& frame);

  /// Whether the call is answered.
  bool answered(uint64_t id) const { return calls_.at(id).reply.has_value(); }

  /// Ends the call; its reply, or nothing where there is none yet.
  std::optional<Reply> end(uint64_t id);

 private:
  struct Call {
    std::string frame;
    uint64_t sent_on = 0;  // connections count from 1
    std::optional<Reply> reply;
  };

  uint64_t next_ = 1;
  std::map<uint64_t, Call> calls_;
};

/// The reply's body. Throws what the server says: TimeoutError, naming the keys and `seconds`,
/// ArgumentError, CommError. `call` names the function.
std::string take_result(StoreCalls::Reply reply, std::string_view call, double seconds);

}  // namespace weft::inline v0::dist::detail
