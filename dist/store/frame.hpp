// The messages between a store's client and its server, as bytes.
//
// A frame is a header of 16 bytes {length of the body u32, kind u16, 0 u16, request id u64} and the
// body. Parsing is a pure function of the bytes: it neither throws nor allocates by a length that
// it has not checked against what is there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace weft::inline v0::dist::detail {

enum class FrameKind : uint16_t {
  // requests
  set = 1,
  get,
  wait,
  check,
  add,
  compare_set,
  erase,
  wait_any,
  erase_prefix,
  barrier,
  join,
  leave,
  // replies
  value = 64,  ///< the result
  timeout,     ///< the call's deadline passed: the missing keys
  late,        ///< TimeoutError with this text
  argument,    ///< ArgumentError with this text
  refused,     ///< CommError with this text
};

inline constexpr size_t kFrameHeader = 16;
inline constexpr size_t kMaxFrameBody = 2 * (1u << 20) + 8192;

struct Frame {
  FrameKind kind = FrameKind::value;
  uint64_t id = 0;
  std::string_view body;
  size_t size = 0;  ///< bytes of header and body together
};

enum class ParseState { complete, incomplete, malformed, forged };

/// The frame at the front of `bytes`; `frame.body` points into them.
ParseState parse_frame(std::string_view bytes, Frame& frame);

std::string make_frame(FrameKind kind, uint64_t id, std::string_view body);

struct Request {
  FrameKind kind = FrameKind::get;
  uint64_t id = 0;
  uint64_t acknowledged = 0;  ///< replies to requests below this id have arrived
  uint64_t timeout_us = 0;    ///< for get, wait, wait_any, barrier; join: the longest silence
  int64_t amount = 0;         ///< for add; barrier: how many arrive
  std::vector<std::string> strings = {};
};

std::string make_request(const Request& request);

/// The request in `frame`, or nothing where kind, number or sizes of its strings are not allowed.
std::optional<Request> parse_request(const Frame& frame);

/// Whether the request is done at once and changes the store, so that doing it twice would show.
bool changes_store(FrameKind kind);

/// Strings one after the other, each behind its length (u32).
void put_string(std::string& out, std::string_view text);
std::optional<std::vector<std::string>> parse_strings(std::string_view bytes, size_t count);

}  // namespace weft::inline v0::dist::detail
