// The frames of one connection, sealed: what arrives is what was sent, once and in order.
//
// Note [Sealed frames]
// Behind each frame stand 16 bytes: the front of HMAC-SHA256, under the key of the connection and
// direction, over the number of the frame (u64, counted from 0, not sent) and the frame. Whoever
// sits between client and server can thus end a connection, but not change, repeat, leave out or
// swap its frames, nor those of another connection. The length is believed before the tag is
// checked; it is bounded, and a changed one makes the tag fail. Contents can be read: keys are
// addresses and values numbers, not secrets.
// On a Unix socket there is nobody in between: the kernel hands the bytes over between two
// processes of one user, who could as well write into each other's memory. Frames are plain there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include <weft/dist/store/frame.hpp>

namespace weft::inline v0::dist::detail {

inline constexpr size_t kTagSize = 16;

/// Numbers the frames of one direction and computes their tags.
class FrameSealer {
 public:
  /// Throws Error where libcrypto refuses.
  explicit FrameSealer(std::string_view key);
  ~FrameSealer();
  FrameSealer(FrameSealer&&) noexcept;
  FrameSealer& operator=(FrameSealer&&) noexcept;

  /// The tag of the next frame.
  std::string next(std::string_view frame);

 private:
  struct Mac;
  std::unique_ptr<Mac> mac_;
  uint64_t count_ = 0;
};

/// Both directions of a connection.
class FrameChannel {
 public:
  /// One without tags.
  FrameChannel() = default;
  FrameChannel(std::string_view send_key, std::string_view receive_key);

  /// Appends `frame` to `out` as it goes over the wire.
  void seal(std::string& out, std::string_view frame);

  /// The frame at the front of `bytes`, and in `size` how many bytes it takes there.
  ParseState open(std::string_view bytes, Frame& frame, size_t& size);

 private:
  std::unique_ptr<FrameSealer> sender_, receiver_;
};

}  // namespace weft::inline v0::dist::detail
